package stats

import (
	"encoding/json"
	"regexp"
	"strconv"
	"testing"
)

// fixedSolvers computes the areas fixed, variance and limit.
func fixedSolvers() map[string]solver {
	return map[string]solver{
		"Welch t, relative lift (delta method)":                                      solveWelch(Lift),
		"Welch t, absolute difference":                                               solveWelch(Difference),
		"Welch t on proportions, relative lift, variance p(1-p)":                     solveWelch(Lift),
		"pooled CUPED theta = cov(post,pre)/var(pre) over both arms":                 solveTheta,
		"Welch t on regression-adjusted ratio metric (delta method, 4x4 covariance)": solveRatioLift,
		"information per request I* and log(20)/I* lower bound on mean requests":     solveLimit,
		"kl(1-beta,alpha)": solveKL,
	}
}

func solveWelch(by compare) solver {
	return func(t *testing.T, input json.RawMessage) any {
		in := decode[armsInput](t, input)
		e := in.effect(t, by)
		low, high := e.Interval(in.level())
		return effectAnswer(e, low, high, e.P())
	}
}

var sameArms = regexp.MustCompile(`^identical\s*x\s*(\d+)$`)

func solveTheta(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		Pre  series `json:"pre"`
		Post series `json:"post"`
		Arms any    `json:"arms"`
	}](t, input)
	arms := 1
	switch v := in.Arms.(type) {
	case nil:
	case float64:
		arms = int(v)
	case string:
		m := sameArms.FindStringSubmatch(v)
		if m == nil {
			t.Fatalf("unknown arms %q", v)
		}
		arms, _ = strconv.Atoi(m[1])
	default:
		t.Fatalf("unknown arms %v", v)
	}
	all := make([]Paired, arms)
	for i := range all {
		all[i] = Paired{Pre: in.Pre, Post: in.Post}
	}
	return Theta(all...)
}

type sumsInput struct {
	Sum   number `json:"sum"`
	Sumsq number `json:"sumsq"`
}

// ratioArmInput is the sufficient statistics of one arm; the sums of products are named for their two factors.
type ratioArmInput struct {
	N          number    `json:"n"`
	MPost      sumsInput `json:"m_post"`
	DPost      sumsInput `json:"d_post"`
	MPre       sumsInput `json:"m_pre"`
	DPre       sumsInput `json:"d_pre"`
	MPostMPre  number    `json:"sum_m_post_m_pre"`
	DPostDPre  number    `json:"sum_d_post_d_pre"`
	MPreDPre   number    `json:"sum_m_pre_d_pre"`
	MPostDPost number    `json:"sum_m_post_d_post"`
	MPostDPre  number    `json:"sum_m_post_d_pre"`
	MPreDPost  number    `json:"sum_m_pre_d_post"`
}

func (in ratioArmInput) arm(otherwise number) RatioArm {
	if in.N == 0 {
		in.N = otherwise
	}
	products := [4][4]number{
		{in.MPost.Sumsq, in.MPostDPost, in.MPostMPre, in.MPostDPre},
		{in.MPostDPost, in.DPost.Sumsq, in.MPreDPost, in.DPostDPre},
		{in.MPostMPre, in.MPreDPost, in.MPre.Sumsq, in.MPreDPre},
		{in.MPostDPre, in.DPostDPre, in.MPreDPre, in.DPre.Sumsq},
	}
	a, n := RatioArm{N: float64(in.N)}, float64(in.N)
	for i, s := range []sumsInput{in.MPost, in.DPost, in.MPre, in.DPre} {
		a.Mean[i] = float64(s.Sum) / n
	}
	for i, row := range products {
		for j, p := range row {
			a.Cov[i][j] = (float64(p) - n*a.Mean[i]*a.Mean[j]) / (n - 1)
		}
	}
	return a
}

func solveRatioLift(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		N     number        `json:"n"`
		A     ratioArmInput `json:"a"`
		B     ratioArmInput `json:"b"`
		Alpha number        `json:"alpha"`
	}](t, input)
	e, ok := RatioLift(in.A.arm(in.N), in.B.arm(in.N))
	if !ok {
		t.Fatal("no lift")
	}
	low, high := e.Interval(armsInput{Alpha: in.Alpha}.level())
	return effectAnswer(e, low, high, e.P())
}

func solveLimit(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		Canary number `json:"p_canary"`
		Stable number `json:"p_stable"`
		Weight number `json:"canary_weight"`
		Alpha  number `json:"alpha"`
	}](t, input)
	info := RateInformation(float64(in.Canary), float64(in.Stable), float64(in.Weight))
	return map[string]any{"I": info, "lb": Limit(info, armsInput{Alpha: in.Alpha}.level())}
}

func solveKL(t *testing.T, input json.RawMessage) any {
	in := decode[struct {
		Alpha number `json:"alpha"`
		Beta  number `json:"beta"`
	}](t, input)
	return KL(1-float64(in.Beta), float64(in.Alpha))
}
