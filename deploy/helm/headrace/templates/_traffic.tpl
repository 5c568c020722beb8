{{/* Pieces of NetworkPolicies. */}}

{{- define "headrace.egressDns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{/* To some networks, or anywhere, on some ports. (dict "cidrs" list "ports" list) */}}
{{- define "headrace.egressTo" -}}
- ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .cidrs }}
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* To pods of a component. (dict "root" $ "component" "billing" "port" 8081) */}}
{{- define "headrace.egressComponent" -}}
- ports:
    - {port: {{ .port }}, protocol: TCP}
  to:
    - podSelector:
        matchLabels:
          {{- include "headrace.selector" . | nindent 10 }}
{{- end -}}

{{- define "headrace.egressDatabase" -}}
{{- if .Values.evaluation.enabled -}}
{{ include "headrace.egressComponent" (dict "root" . "component" "postgres" "port" 5432) }}
{{- else -}}
{{ include "headrace.egressTo" (dict "cidrs" .Values.database.cidrs "ports" (list .Values.database.port)) }}
{{- end -}}
{{- end -}}

{{- define "headrace.egressValkey" -}}
{{- if .Values.evaluation.enabled -}}
{{ include "headrace.egressComponent" (dict "root" . "component" "valkey" "port" 6379) }}
{{- else -}}
{{ include "headrace.egressTo" (dict "cidrs" .Values.valkey.cidrs "ports" (list .Values.valkey.port)) }}
{{- end -}}
{{- end -}}

{{/* To Stripe, where customers pay. */}}
{{- define "headrace.egressStripe" -}}
{{- if .Values.stripe.existingSecret -}}
{{ include "headrace.egressTo" (dict "cidrs" .Values.stripe.cidrs "ports" (list 443)) }}
{{- end -}}
{{- end -}}

{{/* Pods of components, as peers. (dict "root" $ "components" (list "gateway")) */}}
{{- define "headrace.peers" -}}
{{- $root := .root -}}
{{- range .components }}
- podSelector:
    matchLabels:
      {{- include "headrace.selector" (dict "root" $root "component" .) | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Prometheus, and nobody else, to the port of the metrics. */}}
{{- define "headrace.ingressMetrics" -}}
{{- with .Values.cluster.prometheus }}
{{- if .namespace -}}
- ports:
    - {port: 9091, protocol: TCP}
  from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .namespace }}
      {{- with .labels }}
      podSelector:
        matchLabels:
          {{- toYaml . | nindent 10 }}
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The head of a policy for a component. */}}
{{- define "headrace.policyHead" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "headrace.fullname" .root }}-{{ .component }}
  labels:
    {{- include "headrace.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "headrace.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end -}}

{{/* The release's namespace, and those of tenants. */}}
{{- define "headrace.watchedNamespaces" -}}
- {{ .Release.Namespace }}
{{- range .Values.operator.namespaces }}
- {{ . }}
{{- end }}
{{- end -}}

{{/* Ray's pods of the deployments that the release's operator looks after, as a peer. */}}
{{- define "headrace.rayPeer" -}}
{{ include "headrace.watchedPeer" (dict "root" . "label" "ray.io/cluster") }}
{{- end -}}

{{/* Pods in the namespaces that the operator looks after, as a peer. (dict "root" $ "label" "its/name") */}}
{{- define "headrace.watchedPeer" -}}
- podSelector:
    matchExpressions:
      - {key: {{ .label }}, operator: Exists}
  {{- if .root.Values.operator.namespaces }}
  namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values:
          {{- include "headrace.watchedNamespaces" .root | nindent 10 }}
  {{- end }}
{{- end -}}

{{/* Engines: Serve's port, and the Gateways that KubeRay puts before it for an incremental upgrade, whose pods' port
     is their implementation's to choose. */}}
{{- define "headrace.egressEngines" -}}
- ports:
    - {port: 8000, protocol: TCP}
  to:
    {{- include "headrace.rayPeer" . | nindent 4 }}
{{- if .Values.engine.upgradeGateway.className }}
- to:
    {{- include "headrace.watchedPeer" (dict "root" . "label" "gateway.networking.k8s.io/gateway-name") | nindent 4 }}
{{- end }}
{{- end -}}
