package stats

// laterMethods are known and not part of this package yet. The ones about Prometheus are the evidence package's.
func laterMethods() map[string]bool {
	later := map[string]bool{}
	for _, m := range []string{
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
