// Package rapl reads the energy counters of Intel and AMD processors from the kernel's powercap tree.
//
// Zones in that tree overlap (a package contains its cores, psys contains packages) and repeat (the same package by MSR
// and by MMIO), so a Meter decides once, when it is created, which zones together are the node's energy, and keeps to
// that: a zone that vanishes later is reported as unread, and no other takes its place, since that would count energy
// twice when it comes back.
//
// RAPL is not wall power: fans, disks, the power supply's losses and often memory are missing.
package rapl
