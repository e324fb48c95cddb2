// Package controller is the shell around the loops of packages rollout and experiment: it observes through a source of
// evidence, judges and decides with pure functions, and acts on the status and on the traffic, through the Router of the
// rollout's provider.
//
// A Rollout's status is the only state. What is to be counted once and the block it was counted from are written in one
// update, so a process that dies at any instruction leaves a status from which the next one comes to the same verdict.
// Weights grow by writing the status first and the mesh second; they fall the other way round, so that nothing but
// one write to the mesh stands between a decision to roll back and its effect.
//
// Replicas follow the traffic and never the other way round: those that are to grow are written after a route that traffic
// leaves by, those that are to shrink after the status that says so. What fails about them holds no route where it is.
//
// An Experiment has a loop of its own (ExperimentReconciler), which allots buckets and judges; the routes that show its
// variants are written by the rollout's loop alone, which reads what the experiments of its rollout hold.
//
// +kubebuilder:rbac:groups=siskin.dev,resources=rollouts,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=siskin.dev,resources=experiments,verbs=get;list;watch
// +kubebuilder:rbac:groups=siskin.dev,resources=rollouts/status;experiments/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=networking.istio.io,resources=virtualservices;destinationrules;envoyfilters,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=mlops.seldon.io,resources=experiments,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=mlops.seldon.io,resources=models,verbs=get;list;watch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;create;update;patch;delete
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=prometheusrules,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch
// +kubebuilder:rbac:groups=apps,resources=deployments/scale,verbs=patch
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=list
// +kubebuilder:rbac:groups=keda.sh,resources=scaledobjects,verbs=list
// +kubebuilder:rbac:groups=serving.kserve.io,resources=inferenceservices,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=get;create;update
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
package controller
