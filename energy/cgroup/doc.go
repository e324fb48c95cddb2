// Package cgroup reads CPU time from the kernel: of pods from the cgroup tree (version 1 or 2), of the node from
// /proc/stat.
//
// The files already hold short-lived and running tasks and cost nothing per context switch. A pod's directory contains its
// containers and its pause process, so one file is the pod. The pod's uid is in the path: no API call is needed. What a
// pod used between the last reading and its end is lost with its directory.
package cgroup
