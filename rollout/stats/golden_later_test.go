package stats

// laterMethods are known and not part of this package yet. The ones about Prometheus are the evidence package's.
func laterMethods() map[string]bool {
	later := map[string]bool{}
	for _, m := range []string{
		"two-sided normal mixture best_rho(v_opt,alpha)",
		"normal mixture log-supermartingale, two-sided",
		"normal mixture bound, two-sided",
		"beta-binomial log mixture, two-sided",
		"beta-binomial bound, two-sided",
		"beta-binomial log mixture, one-sided",
		"beta-binomial bound, one-sided",
		"Bernoulli confidence sequence (sub-Bernoulli beta-binomial mixture)",
		"Welch t, relative lift (delta method)",
		"Welch t, absolute difference",
		"Welch t on proportions, relative lift, variance p(1-p)",
		"asymptotic CS (Waudby-Smith) two-sided, relative lift",
		"asymptotic CS two-sided, proportions, relative lift",
		"asymptotic CS one-sided, relative lift",
		"asymptotic CS one-sided, absolute difference",
		"pooled CUPED theta = cov(post,pre)/var(pre) over both arms",
		"Welch t on regression-adjusted ratio metric (delta method, 4x4 covariance)",
		"chi-square goodness of fit, 50/50",
		"chi-square SRM",
		"chi-square SRM, canary 10%",
		"Dirichlet-multinomial sequential SRM, cumulative log marginal likelihoods (M1,M0)",
		"same, unit-level rows",
		"Dirichlet prior concentration 10000 at p0",
		"Mann-Whitney U",
		"Wilcoxon rank-sum, alternative=greater, exact",
		"exact permutation MWU with ties (less, two-sided=2*min, greater)",
		"exact permutation MWU with heavy ties",
		"normal approximation with continuity correction (matches R)",
		"Hodges-Lehmann interval by inverting tie-corrected MWU with Brent tol 1e-4",
		"High/critical classification",
		"common-language effect size = U/(nm)",
		"percentile R-7",
		"weighted group score",
		"P(p_test>p_control), Jeffreys prior",
		"P(B>A) Beta(1,1) closed form",
		"Turner-Ly-Grunwald plug-in 2x2 e-value, prior .18",
		"one-sided TLG plug-in log E (control first), prior (.5,25) both",
		"two-sample histogram (multinomial) TLG log E, prior .5",
		"rho^2 via Lambert W_{-1}",
		"unit-variance conjugate-mixture margin at t=100",
		"information per request I* and log(20)/I* lower bound on mean requests",
		"kl(1-beta,alpha)",
		"classic histogram_quantile (linear interpolation)",
		"classic histogram_quantile",
		"histogram_fraction(0,3.5)",
		"histogram_quantile(0.5) after summing rates over instances",
		"increase() v anchored on integer counter, scrape 15s, window 1m",
	} {
		later[m] = true
	}
	return later
}
