package stats

// Paired are the observations of one arm, each with that of the same unit before the experiment.
type Paired struct {
	Pre, Post []float64
}

// Theta returns the coefficient of the regression of observations on the same units' past, pooled over the arms:
//
//	sum over arms of Cov(post, pre) / sum over arms of Var(pre)
//
// with sums of products about each arm's own means, so that an effect of the treatment does not enter. post - Theta*pre has
// the least variance. It is zero where the past does not vary. Source: Deng, Xu, Kohavi and Walker 2013, "Improving the
// sensitivity of online controlled experiments by utilizing pre-experiment data" (CUPED).
func Theta(arms ...Paired) float64 {
	cov, v := 0.0, 0.0
	for _, arm := range arms {
		n := min(len(arm.Pre), len(arm.Post))
		pre, post := mean(arm.Pre[:n]), mean(arm.Post[:n])
		for i := range n {
			d := arm.Pre[i] - pre
			cov += d * (arm.Post[i] - post)
			v += d * d
		}
	}
	if !(v > 0) {
		return 0
	}
	return cov / v
}

func mean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / float64(len(xs))
}

// RatioArm sums up one arm of a ratio metric M/D over N units, with the same units' ratio M0/D0 before the experiment.
type RatioArm struct {
	// N is the number of units.
	N float64
	// Mean holds the means of M, D, M0 and D0 over units, Cov their sample covariances.
	Mean [4]float64
	Cov  [4][4]float64
}

// RatioArmOf returns an arm whose units are clusters: their sums and counts now, and before. The past takes part only where
// every cluster has one.
func RatioArmOf(s Sample) RatioArm {
	rows := s.rows()
	a := RatioArm{N: float64(len(rows))}
	for _, row := range rows {
		for k, v := range row {
			a.Mean[k] += v / a.N
		}
	}
	for _, row := range rows {
		for k := range row {
			for l := range row {
				a.Cov[k][l] += (row[k] - a.Mean[k]) * (row[l] - a.Mean[l]) / (a.N - 1)
			}
		}
	}
	return a
}

// rows returns sum and count of every cluster that has any, now and before; before is zero for all where one has no past.
func (s Sample) rows() [][4]float64 {
	var rows [][4]float64
	past := len(s.Before) == len(s.Now)
	for i, c := range s.Now {
		if c.Count <= 0 {
			continue
		}
		row := [4]float64{c.Sum, c.Count}
		if past = past && s.Before[i].Count > 0; past {
			row[2], row[3] = s.Before[i].Sum, s.Before[i].Count
		}
		rows = append(rows, row)
	}
	if !past {
		for i := range rows {
			rows[i][2], rows[i][3] = 0, 0
		}
	}
	return rows
}

// ratio returns the ratio with index i (0: M/D, 2: M0/D0) and its gradient by numerator and denominator.
func (a RatioArm) ratio(i int) (r float64, gradient [2]float64) {
	m, d := a.Mean[i], a.Mean[i+1]
	return m / d, [2]float64{1 / d, -m / (d * d)}
}

// product returns x' Cov y for the parts of the covariance that begin at i and j.
func (a RatioArm) product(x [2]float64, i int, y [2]float64, j int) float64 {
	sum := 0.0
	for k := range x {
		for l := range y {
			sum += x[k] * a.Cov[i+k][j+l] * y[l]
		}
	}
	return sum
}

// variance returns that of f M/D - theta M0/D0 over units, by the delta method.
func (a RatioArm) variance(f, theta float64) float64 {
	_, u := a.ratio(0)
	v := a.product(u, 0, u, 0) * f * f
	if theta == 0 {
		return v
	}
	_, w := a.ratio(2)
	return v - 2*f*theta*a.product(u, 0, w, 2) + theta*theta*a.product(w, 2, w, 2)
}

// RatioTheta returns the coefficient of the regression of a ratio on the same units' past ratio, pooled over both arms: with
// u and v the gradients of M/D and M0/D0,
//
//	sum over arms of u' Cov v / sum over arms of v' Cov v
//
// It is zero where there is no past that varies.
func RatioTheta(control, treatment RatioArm) float64 {
	cov, past := 0.0, 0.0
	for _, a := range []RatioArm{control, treatment} {
		if a.Mean[3] == 0 {
			return 0
		}
		_, u := a.ratio(0)
		_, v := a.ratio(2)
		cov += a.product(u, 0, v, 2)
		past += a.product(v, 2, v, 2)
	}
	if !(past > 0) {
		return 0
	}
	return cov / past
}

// RatioLift returns the relative lift of a ratio metric, adjusted by the units' past:
//
//	(R_t - R_c) / U_c,  R = M/D - theta M0/D0,  U_c = M/D of control
//
// The divisor is control's ratio without the adjustment, and part of the gradient. The variance is that of the delta method
// over units, the degrees of freedom are Welch's of the adjusted variances. ok is false where there is no such lift: a
// denominator or a divisor of zero, no variance, fewer than two units. Assumption: units are independent, many, and assigned
// at random. Sources: Deng, Xu, Kohavi and Walker 2013; Deng, Knoblich and Lu 2018, "Applying the delta method in metric
// analytics".
func RatioLift(control, treatment RatioArm) (effect Effect, ok bool) {
	theta := RatioTheta(control, treatment)
	base, _ := control.ratio(0)
	moments := func(a RatioArm) Moments {
		m := Moments{N: a.N, Var: a.variance(1, theta)}
		m.Mean, _ = a.ratio(0)
		if theta != 0 {
			past, _ := a.ratio(2)
			m.Mean -= theta * past
		}
		return m
	}
	c, t := moments(control), moments(treatment)
	lift := (t.Mean - c.Mean) / base
	v := (t.Var/t.N + control.variance(1+lift, theta)/c.N) / (base * base)
	return effectOf(lift, v, c, t)
}
