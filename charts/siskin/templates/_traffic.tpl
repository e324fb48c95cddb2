{{/* The name of a version's subset, as the controller derives it: the version itself where that is a DNS label, else
its readable part and a hash. */}}
{{- define "siskin.subset" -}}
{{- $plain := and (le (len .) 63) (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" .) (not (contains "--" .)) -}}
{{- if $plain -}}
{{- . -}}
{{- else -}}
{{- $readable := regexReplaceAll "[^a-z0-9]+" (lower .) "-" | trunc 51 | trimAll "-" -}}
{{- printf "%s--%s" (default "v" $readable) (sha256sum . | trunc 10) -}}
{{- end -}}
{{- end -}}

{{/* The first n digits as a class: 0, [01], [0-4]. */}}
{{- define "siskin.digits" -}}
{{- if eq (int .) 1 -}}0{{- else if eq (int .) 2 -}}[01]{{- else -}}[0-{{ sub (int .) 1 }}]{{- end -}}
{{- end -}}

{{/* The first n buckets, 1 to 100, as an alternation: [01][0-9]|2[0-4] for 25. */}}
{{- define "siskin.buckets" -}}
{{- $tens := div (int .) 10 -}}
{{- $rest := mod (int .) 10 -}}
{{- if gt $tens 0 -}}{{ include "siskin.digits" $tens }}[0-9]{{- end -}}
{{- if and (gt $tens 0) (gt $rest 0) -}}|{{- end -}}
{{- if gt $rest 0 -}}{{ $tens }}{{ include "siskin.digits" $rest }}{{- end -}}
{{- end -}}

{{/* The condition that a request has one of the first n buckets: (list $ n). */}}
{{- define "siskin.conditions" -}}
{{- $traffic := (index . 0).Values.traffic -}}
{{- $buckets := include "siskin.buckets" (index . 1) -}}
headers:
{{- if eq $traffic.stickiness.mode "header" }}
  {{ (index . 0).Values.traffic.stickiness.header }}:
    regex: {{ printf "^(%s)$" $buckets | quote }}
{{- else }}
  cookie:
    regex: {{ printf `(^|.*;\s*)%s=(%s)(;.*|$)` (include "siskin.cookie" (index . 0)) $buckets | quote }}
{{- end }}
{{- end -}}

{{/* The matches of requests under conditions, or under none (list $ ""): in the mesh those to the service's port, and at the gateways,
whose ports are others, all. */}}
{{- define "siskin.matches" -}}
{{- $service := (index . 0).Values.traffic.service -}}
- port: {{ int $service.port }}
{{- if $service.gateways }}
  gateways: [mesh]
{{- end }}
{{- with index . 1 }}{{ . | nindent 2 }}{{ end }}
{{- if $service.gateways }}
- gateways: {{ toJson $service.gateways }}
{{- with index . 1 }}{{ . | nindent 2 }}{{ end }}
{{- end }}
{{- end -}}

{{- define "siskin.cookie" -}}
{{- default (printf "siskin-%s" .Values.traffic.service.name) .Values.traffic.stickiness.cookie.name -}}
{{- end -}}

{{- define "siskin.host" -}}
{{ .Values.traffic.service.name }}.{{ .Release.Namespace }}.svc.cluster.local
{{- end -}}

{{/* One destination: (list $ "canary" "v2" weight bucket). A bucket of "" adds no cookie. */}}
{{- define "siskin.destination" -}}
{{- $root := index . 0 -}}
- destination:
    host: {{ include "siskin.host" $root }}
    subset: {{ include "siskin.subset" (index . 2) | quote }}
    port: {number: {{ int $root.Values.traffic.service.port }}}
  weight: {{ index . 3 }}
  headers:
    request: {set: {x-siskin-variant: {{ index . 1 }}}}
    response:
      set: {x-siskin-variant: {{ index . 1 }}}
      {{- if index . 4 }}
      add: {set-cookie: {{ printf "%s=%s; Max-Age=%d; Path=/; HttpOnly; SameSite=Lax" (include "siskin.cookie" $root) (index . 4) (int $root.Values.traffic.stickiness.cookie.maxAgeSeconds) | quote }}}
      {{- end }}
{{- end -}}

{{- define "siskin.checkTraffic" -}}
{{- $stable := .Values.traffic.stable -}}
{{- $canary := .Values.traffic.canary -}}
{{- $sum := add (int $stable.weight) (int $canary.weight) -}}
{{- if not .Values.traffic.service.name -}}
{{- fail "traffic.service.name must be given: the name of the Service whose traffic is split" -}}
{{- end -}}
{{- if ne (int $sum) 100 -}}
{{- fail (printf "traffic.stable.weight, %d, and traffic.canary.weight, %d, must sum to 100; they sum to %d" (int $stable.weight) (int $canary.weight) (int $sum)) -}}
{{- end -}}
{{- if and (not $canary.version) (ne (int $canary.weight) 0) -}}
{{- fail (printf "traffic.canary.weight, %d, must be 0 when traffic.canary.version is empty" (int $canary.weight)) -}}
{{- end -}}
{{- if eq $stable.version $canary.version -}}
{{- fail (printf "traffic.stable.version and traffic.canary.version must differ; both are %q" $stable.version) -}}
{{- end -}}
{{- if and .Values.traffic.service.hosts (not .Values.traffic.service.gateways) -}}
{{- fail "traffic.service.hosts may not be specified without traffic.service.gateways" -}}
{{- end -}}
{{- end -}}
