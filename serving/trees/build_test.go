package trees

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// obj and arr keep the tests' hand-written models short.
type (
	obj = map[string]any
	arr = []any
)

// smallModel is x0 < 10 ? (x1 < 5 ? 1 : 2) : 3 over two features, missing x0 right, missing x1 left, plus one tree that
// is a leaf of 0.5.
func smallModel() obj {
	return obj{"version": arr{1, 7, 4}, "learner": obj{
		"feature_names":       arr{"a", "b"},
		"learner_model_param": obj{"base_score": "5E-1", "num_class": "0", "num_feature": "2", "num_target": "1"},
		"objective":           obj{"name": "reg:squarederror"},
		"gradient_booster": obj{"name": "gbtree", "model": obj{
			"gbtree_model_param": obj{"num_trees": "2", "size_leaf_vector": "0"},
			"tree_info":          arr{0, 0},
			"trees": arr{
				obj{
					"tree_param":    obj{"num_nodes": "5", "size_leaf_vector": "0"},
					"left_children": arr{1, 3, -1, -1, -1}, "right_children": arr{2, 4, -1, -1, -1},
					"split_indices": arr{0, 1, 0, 0, 0}, "split_conditions": arr{10.0, 5.0, 3.0, 1.0, 2.0},
					"default_left": arr{0, 1, 0, 0, 0}, "split_type": arr{0, 0, 0, 0, 0},
				},
				obj{
					"tree_param":    obj{"num_nodes": "1", "size_leaf_vector": "0"},
					"left_children": arr{-1}, "right_children": arr{-1}, "split_indices": arr{0},
					"split_conditions": arr{0.5}, "default_left": arr{0}, "split_type": arr{0},
				},
			},
		}},
	}}
}

// at walks into a model by keys and indices.
func at(v any, path ...any) any {
	for _, p := range path {
		switch k := p.(type) {
		case string:
			v = v.(obj)[k]
		case int:
			v = v.(arr)[k]
		}
	}
	return v
}

func set(m obj, value any, path ...any) {
	parent := at(m, path[:len(path)-1]...)
	switch k := path[len(path)-1].(type) {
	case string:
		parent.(obj)[k] = value
	case int:
		parent.(arr)[k] = value
	}
}

// encodings writes the model in both formats.
func encodings(tb testing.TB, m obj) map[string][]byte {
	tb.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	var ub bytes.Buffer
	writeUB(&ub, m)
	return map[string][]byte{"JSON": text, "UBJSON": ub.Bytes()}
}

// writeUB is the smallest UBJSON writer that can write a model: floats as 'd', integers as 'l', arrays of floats strongly
// typed, as XGBoost writes them.
func writeUB(w *bytes.Buffer, v any) {
	long := func(n int) { w.WriteByte('L'); _ = binary.Write(w, binary.BigEndian, int64(n)) }
	switch x := v.(type) {
	case string:
		w.WriteByte('S')
		long(len(x))
		w.WriteString(x)
	case int:
		w.WriteByte('l')
		_ = binary.Write(w, binary.BigEndian, int32(x))
	case float64:
		w.WriteByte('d')
		_ = binary.Write(w, binary.BigEndian, float32(x))
	case bool:
		w.WriteByte(map[bool]byte{true: 'T', false: 'F'}[x])
	case arr:
		writeUBArray(w, x, long)
	case obj:
		w.WriteByte('{')
		for k, e := range x {
			long(len(k))
			w.WriteString(k)
			writeUB(w, e)
		}
		w.WriteByte('}')
	}
}

func writeUBArray(w *bytes.Buffer, x arr, long func(int)) {
	typed := len(x) > 0 && !slices.ContainsFunc(x, func(e any) bool { _, ok := e.(float64); return !ok })
	if !typed {
		w.WriteString("[#")
		long(len(x))
		for _, e := range x {
			writeUB(w, e)
		}
		return
	}
	w.WriteString("[$d#")
	long(len(x))
	for _, e := range x {
		_ = binary.Write(w, binary.BigEndian, float32(e.(float64)))
	}
}

func TestSmallModel(t *testing.T) {
	nan := float32(math.NaN())
	for reason, c := range map[string]struct {
		row  [2]float32
		want float32
	}{
		"left, left":                  {[2]float32{9, 4}, 0.5 + 1 + 0.5},
		"left, equal goes right":      {[2]float32{9, 5}, 0.5 + 2 + 0.5},
		"equal goes right":            {[2]float32{10, 0}, 0.5 + 3 + 0.5},
		"one below the split":         {[2]float32{math.Nextafter32(10, 0), 4}, 0.5 + 1 + 0.5},
		"missing goes right":          {[2]float32{nan, 4}, 0.5 + 3 + 0.5},
		"missing goes left":           {[2]float32{0, nan}, 0.5 + 1 + 0.5},
		"plus infinity is not beyond": {[2]float32{inf, nan}, 0.5 + 3 + 0.5},
		"minus infinity":              {[2]float32{-inf, inf}, 0.5 + 2 + 0.5},
	} {
		for format, data := range encodings(t, smallModel()) {
			b, err := Parse(data)
			if err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			var got [1]float32
			if err := b.Predict(c.row[:], got[:]); err != nil {
				t.Fatal(err)
			}
			if got[0] != c.want {
				t.Errorf("%s, %s: Predict(%v) = %v, want %v", reason, format, c.row, got[0], c.want)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	tree := []any{"learner", "gradient_booster", "model", "trees", 0}
	in := func(path ...any) []any { return append(slices.Clone(tree), path...) }
	model := func(path ...any) []any { return append(slices.Clone(tree[:3]), path...) }
	type change struct {
		path  []any
		value any
	}
	for reason, c := range map[string]struct {
		change
		want error
		says string
	}{
		"linear booster":       {change{model()[:2:2], obj{"name": "gblinear"}}, ErrUnsupported, "gblinear"},
		"dart":                 {change{model("..")[:2], obj{"name": "dart"}}, ErrUnsupported, "dart"},
		"unknown objective":    {change{[]any{"learner", "objective", "name"}, "rank:mystery"}, ErrUnsupported, "rank:mystery"},
		"several classes":      {change{[]any{"learner", "learner_model_param", "num_class"}, "3"}, ErrUnsupported, "num_class is 3"},
		"several targets":      {change{[]any{"learner", "learner_model_param", "num_target"}, "2"}, ErrUnsupported, "num_target is 2"},
		"vector of scores":     {change{[]any{"learner", "learner_model_param", "base_score"}, "[1E0,2E0]"}, ErrUnsupported, "base_score"},
		"score no number":      {change{[]any{"learner", "learner_model_param", "base_score"}, "half"}, ErrMalformed, "base_score"},
		"score not finite":     {change{[]any{"learner", "learner_model_param", "base_score"}, "NaN"}, ErrMalformed, "base_score"},
		"no features":          {change{[]any{"learner", "learner_model_param", "num_feature"}, "0"}, ErrMalformed, "num_feature"},
		"too many features":    {change{[]any{"learner", "learner_model_param", "num_feature"}, "99999999"}, ErrMalformed, "num_feature"},
		"names miscounted":     {change{[]any{"learner", "feature_names"}, arr{"a"}}, ErrMalformed, "feature_names"},
		"vector leaf":          {change{model("gbtree_model_param", "size_leaf_vector"), "4"}, ErrUnsupported, "size_leaf_vector"},
		"vector leaf of tree":  {change{in("tree_param", "size_leaf_vector"), "4"}, ErrUnsupported, "size_leaf_vector"},
		"trees miscounted":     {change{model("gbtree_model_param", "num_trees"), "3"}, ErrMalformed, "num_trees"},
		"tree_info miscounted": {change{model("tree_info"), arr{0}}, ErrMalformed, "tree_info"},
		"class of a tree":      {change{model("tree_info"), arr{0, 1}}, ErrMalformed, "tree_info[1]"},
		"no nodes":             {change{in("tree_param", "num_nodes"), "0"}, ErrMalformed, "num_nodes"},
		"nodes miscounted":     {change{in("tree_param", "num_nodes"), "6"}, ErrMalformed, "left_children"},
		"short thresholds":     {change{in("split_conditions"), arr{1.0}}, ErrMalformed, "split_conditions"},
		"short split_type":     {change{in("split_type"), arr{0}}, ErrMalformed, "split_type"},
		"categorical":          {change{in("split_type", 0), 1}, ErrUnsupported, "categorical"},
		"child out of range":   {change{in("left_children", 0), 5}, ErrMalformed, "child 5"},
		"child negative":       {change{in("right_children", 0), -2}, ErrMalformed, "child -2"},
		"child huge":           {change{in("right_children", 0), math.MaxInt32}, ErrMalformed, "child 2147483647"},
		"cycle to the root":    {change{in("left_children", 1), 0}, ErrMalformed, "reached twice"},
		"cycle to itself":      {change{in("left_children", 1), 1}, ErrMalformed, "reached twice"},
		"shared child":         {change{in("left_children", 1), 4}, ErrMalformed, "reached twice"},
		"half a leaf":          {change{in("left_children", 1), -1}, ErrMalformed, "right child 4"},
		"feature out of range": {change{in("split_indices", 1), 2}, ErrMalformed, "split_indices 2"},
		"feature negative":     {change{in("split_indices", 1), -1}, ErrMalformed, "split_indices -1"},
		"odd default":          {change{in("default_left", 1), 7}, ErrMalformed, "default_left"},
		"child is a string":    {change{in("left_children", 1), "x"}, ErrMalformed, "left_children"},
		"child is a fraction":  {change{in("left_children", 1), 1.5}, ErrMalformed, "left_children"},
		"tree is a number":     {change{tree, 1}, ErrMalformed, "trees"},
		"param is no number":   {change{in("tree_param", "num_nodes"), "x"}, ErrMalformed, "num_nodes"},
	} {
		m := smallModel()
		set(m, c.value, c.path...)
		for format, data := range encodings(t, m) {
			_, err := Parse(data)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s: Parse says %v, want %v naming %q", reason, format, err, c.want, c.says)
			}
		}
	}
}

func TestParseRefusesUBJSONOnly(t *testing.T) {
	nest := "{i\x01a" + strings.Repeat("[", maxDepth+2)
	for reason, data := range map[string]string{
		"empty":                   "",
		"cut in a key":            "{i\x05lear",
		"cut in an array":         "{i\x01a[$d#i\x05\x00\x00",
		"array longer than input": "{i\x01a[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff",
		"negative length":         "{i\x01a[$d#i\xff",
		"type without count":      "{i\x01a[$d",
		"array of nothing":        "{i\x01a[$Z#l\x7f\xff\xff\xff",
		"object of a type":        "{$i#i\x01i\x01a\x00",
		"unknown type":            "{i\x01aQ",
		"length is a float":       "{d\x00\x00\x00\x00",
		"key twice":               "{i\x01aZi\x01aZ}",
		"too deep":                nest,
		"bytes after the end":     "{i\x01aZ}Z",
		"not an object inside":    "{i\x07learneri\x01}",
	} {
		if _, err := Parse([]byte(data)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: Parse says %v, want %v", reason, err, ErrMalformed)
		}
	}
}

func TestNotFiniteNodes(t *testing.T) {
	for reason, c := range map[string]struct {
		node  int
		value float64
	}{
		"leaf NaN":             {3, math.NaN()},
		"leaf infinite":        {3, math.Inf(1)},
		"threshold NaN":        {0, math.NaN()},
		"threshold minus inf.": {0, math.Inf(-1)},
	} {
		m := smallModel()
		set(m, c.value, "learner", "gradient_booster", "model", "trees", 0, "split_conditions", c.node)
		var ub bytes.Buffer
		writeUB(&ub, m)
		if _, err := Parse(ub.Bytes()); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: Parse says %v, want %v", reason, err, ErrMalformed)
		}
	}
}

// TestObjectives checks the link of each objective at values worked out by hand: base margin, and the prediction when
// the trees add nothing but the margin.
func TestObjectives(t *testing.T) {
	for name, c := range map[string]struct{ base, margin, pred float32 }{
		"reg:squarederror":     {3, 3, 3},
		"reg:linear":           {3, 3, 3},
		"reg:squaredlogerror":  {3, 3, 3},
		"reg:absoluteerror":    {3, 3, 3},
		"reg:pseudohubererror": {3, 3, 3},
		"reg:logistic":         {0.75, 1.0986123, 0.75},
		"binary:logistic":      {0.75, 1.0986123, 0.75},
		"binary:logitraw":      {0.75, 1.0986123, 1.0986123},
		"count:poisson":        {2, 0.6931472, 2},
		"reg:gamma":            {2, 0.6931472, 2},
		"reg:tweedie":          {2, 0.6931472, 2},
	} {
		o, err := findObjective(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m := o.margin(c.base)
		if ulps(m, c.margin) > 2 || ulps(o.transform(m), c.pred) > 2 {
			t.Errorf("%s: margin %v, prediction %v, want %v, %v", name, m, o.transform(m), c.margin, c.pred)
		}
	}
	if n := len(objectives()); n != 11 {
		t.Errorf("%d objectives, this test knows 11", n)
	}
}

// randomTree grows a tree of random shape; node ids are in the order of creation, and a few ids are left unreachable, as
// pruning leaves them.
func randomTree(r *rand.Rand, features int) obj {
	left, right, def := arr{-1}, arr{-1}, arr{0}
	index, cond := arr{0}, arr{float64(float32(r.NormFloat64()))}
	add := func() int {
		left, right, def = append(left, -1), append(right, -1), append(def, 0)
		index, cond = append(index, 0), append(cond, float64(float32(r.NormFloat64())))
		return len(left) - 1
	}
	for open := []int{0}; len(open) > 0; {
		id := open[0]
		open = open[1:]
		if len(left) > 60 || r.IntN(4) == 0 {
			continue
		}
		if r.IntN(8) == 0 {
			add()
		}
		l, rr := add(), add()
		left[id], right[id], def[id], index[id] = l, rr, r.IntN(2), r.IntN(features)
		open = append(open, l, rr)
	}
	zeros := make(arr, len(left))
	for i := range zeros {
		zeros[i] = 0
	}
	return obj{
		"tree_param":    obj{"num_nodes": fmt.Sprint(len(left)), "size_leaf_vector": "0"},
		"left_children": left, "right_children": right, "split_indices": index,
		"split_conditions": cond, "default_left": def, "split_type": zeros,
	}
}

// plainMargin evaluates the tree objects as the format's text says, one branch at a time.
func plainMargin(trees arr, row []float32, sum float32) float32 {
	for _, t := range trees {
		id := 0
		for at(t, "left_children", id).(int) != -1 {
			x := row[at(t, "split_indices", id).(int)]
			left := x < float32(at(t, "split_conditions", id).(float64))
			if x != x {
				left = at(t, "default_left", id).(int) == 1
			}
			if left {
				id = at(t, "left_children", id).(int)
			} else {
				id = at(t, "right_children", id).(int)
			}
		}
		sum += float32(at(t, "split_conditions", id).(float64))
	}
	return sum
}

// TestFormatsAgreeOnRandomModels holds JSON and UBJSON to identical bits, and both to the plain evaluation.
func TestFormatsAgreeOnRandomModels(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 100 {
		features := 1 + r.IntN(9)
		trees, info := arr{}, arr{}
		for range r.IntN(12) {
			trees, info = append(trees, randomTree(r, features)), append(info, 0)
		}
		m := smallModel()
		set(m, trees, "learner", "gradient_booster", "model", "trees")
		set(m, info, "learner", "gradient_booster", "model", "tree_info")
		set(m, fmt.Sprint(len(trees)), "learner", "gradient_booster", "model", "gbtree_model_param", "num_trees")
		set(m, fmt.Sprint(features), "learner", "learner_model_param", "num_feature")
		set(m, arr{}, "learner", "feature_names")
		data := encodings(t, m)
		a, errA := Parse(data["JSON"])
		b, errB := Parse(data["UBJSON"])
		if errA != nil || errB != nil {
			t.Fatalf("round %d: JSON %v, UBJSON %v", round, errA, errB)
		}
		if !sameBits(a, b) {
			t.Fatalf("round %d: the formats differ", round)
		}
		checkPlain(t, r, a, trees)
	}
}

func checkPlain(t *testing.T, r *rand.Rand, b *Booster, trees arr) {
	t.Helper()
	const n = 2*blockRows + 1
	rows, got := make([]float32, n*b.Features()), make([]float32, n)
	for i := range rows {
		rows[i] = float32(r.NormFloat64())
		if r.IntN(5) == 0 {
			rows[i] = float32(math.NaN())
		}
	}
	if err := b.Margin(rows, got); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		row := rows[i*b.Features():][:b.Features()]
		if want := plainMargin(trees, row, b.baseMargin); math.Float32bits(got[i]) != math.Float32bits(want) {
			t.Fatalf("Margin(%v) = %v, want %v", row, got[i], want)
		}
	}
}
