{{/* Prefix of every object's name: the release's, with the chart's where it says nothing about it. */}}
{{- define "outrigger.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) }}{{ $name = printf "%s-%s" $name .Chart.Name }}{{ end -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "outrigger.webhook" }}{{ include "outrigger.name" . }}-webhook{{ end }}

{{/* Where `outrigger check` tries its pod. */}}
{{- define "outrigger.checkNamespace" }}{{ include "outrigger.name" . }}-check{{ end }}

{{/* What a Deployment's selector holds: it can never change. */}}
{{- define "outrigger.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "outrigger.collector" }}{{ include "outrigger.name" . }}-collector{{ end }}

{{/* The name of an APIService is its version and group. */}}
{{- define "outrigger.customMetrics" }}v1beta2.custom.metrics.k8s.io{{ end }}

{{- define "outrigger.collectorSelector" -}}
{{- merge (dict "app.kubernetes.io/component" "collector") (include "outrigger.selector" . | fromYaml) | toYaml }}
{{- end }}

{{- define "outrigger.collectorLabels" -}}
{{- merge (dict "app.kubernetes.io/component" "collector") (include "outrigger.labels" . | fromYaml) | toYaml }}
{{- end }}

{{- define "outrigger.labels" -}}
{{ include "outrigger.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* `include "outrigger.labelsAnd" (list . .Values.podLabels)`: ours win. */}}
{{- define "outrigger.labelsAnd" -}}
{{- mergeOverwrite (deepCopy (index . 1)) (include "outrigger.labels" (index . 0) | fromYaml) | toYaml }}
{{- end }}

{{/* `include "outrigger.image" (list . .Values.image)` */}}
{{- define "outrigger.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/*
The Secret with the certificate. Each mode has its own name: another owner must not find what the one before left, nor
helm remove what cert-manager made.
*/}}
{{- define "outrigger.secret" -}}
{{- if eq .Values.tls.mode "secret" }}{{ .Values.tls.secretName -}}
{{- else }}{{ include "outrigger.webhook" . }}-{{ ternary "tls" "certificate" (eq .Values.tls.mode "certManager") }}{{ end -}}
{{- end }}

{{/* The fewest replicas that there may be. */}}
{{- define "outrigger.replicas" -}}
{{ if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}{{ else }}{{ .Values.replicas }}{{ end }}
{{- end }}

{{/* What Pod Security `restricted` asks of a container, and a read-only root. */}}
{{- define "outrigger.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "outrigger.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
