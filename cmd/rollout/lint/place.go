package lint

import (
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlLine finds the line in the messages of both YAML libraries.
var yamlLine = regexp.MustCompile(`line (\d+): `)

// syntax is a document that cannot be read.
func syntax(err error) Finding {
	text := strings.Join(strings.Fields(err.Error()), " ")
	for _, prefix := range []string{"error converting YAML to JSON: ", "yaml: ", "unmarshal errors: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	f := Finding{Level: Error}
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		f.Line, _ = strconv.Atoi(m[1]) // digits by the expression; too many of them are line 0, unknown
		text = strings.TrimPrefix(text, m[0])
	}
	f.Message = "reading YAML: " + text
	return f
}

// step is one step of a field path: a key, an index, or the name of an element.
var step = regexp.MustCompile(`^\.?(?:([^.\[\]]+)|\[(\d+)\]|\[([^\]]*)\])`)

// line is the line of a field, or of the nearest parent that the document has.
func line(root *yaml.Node, path string) int {
	node := root
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	at := node.Line
	for path != "" {
		m := step.FindStringSubmatch(path)
		if m == nil {
			break
		}
		path = path[len(m[0]):]
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		key, value := child(node, m)
		if value == nil {
			break
		}
		node, at = value, key.Line
	}
	return at
}

// child is the member that a step leads to, with the node that names it.
func child(node *yaml.Node, step []string) (key, value *yaml.Node) {
	switch {
	case node.Kind == yaml.MappingNode && step[1] != "":
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step[1] {
				return node.Content[i], node.Content[i+1]
			}
		}
	case node.Kind == yaml.SequenceNode && step[2] != "":
		if i, err := strconv.Atoi(step[2]); err == nil && i < len(node.Content) {
			return node.Content[i], node.Content[i]
		}
	}
	return nil, nil
}
