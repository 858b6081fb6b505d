{{/* Labels of an object; the argument is a list of the root context and the component. */}}
{{- define "cloison.labels" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
app.kubernetes.io/name: cloison
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: cloison
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* A generated object with the chart's labels beside its own. The argument is a list of root context, object, component. */}}
{{- define "cloison.labelled" -}}
{{- $object := index . 1 -}}
{{- $labels := include "cloison.labels" (list (index . 0) (index . 2)) | fromYaml -}}
{{- $own := dig "metadata" "labels" dict $object -}}
{{- $_ := set $object.metadata "labels" (merge (dict) $labels $own) -}}
{{- toYaml $object -}}
{{- end -}}

{{/* The image: a digest wins over a tag. */}}
{{- define "cloison.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}
