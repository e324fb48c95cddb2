package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/siskin-dev/siskin/rollout/v1alpha1"
)

// completionTimeout bounds the look into the cluster while somebody waits with a finger on the tab key.
const completionTimeout = 3 * time.Second

// completeNames offers the names of the rollouts, with what each is doing. Errors offer nothing: a shell has no place
// to show them.
func (a *app) completeNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	var all v1alpha1.RolloutList
	if err := c.List(ctx, &all, client.InNamespace(c.namespace)); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, 0, len(all.Items))
	for i := range all.Items {
		names = append(names, cobra.CompletionWithDesc(all.Items[i].Name, summary(&all.Items[i])))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// oneName accepts exactly one argument.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s needs the NAME of a rollout", cmd.Name())
	}
	return atMostOneName(cmd, args)
}

func atMostOneName(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%s takes one NAME, not %d", cmd.Name(), len(args))
	}
	return nil
}

// addCompletion adds the library's completion command, with examples under the name that the user calls.
func (a *app) addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd("completion")
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Example = a.examples("completion bash > /etc/bash_completion.d/rollout", "completion zsh", "completion fish")
		}
	}
}
