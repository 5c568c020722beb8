{{/* What every pod has: the restricted Pod Security Standard, pull secrets, no token unless it says so. */}}

{{/* (dict "root" $ "account" "gateway" "token" false "uid" 10001) */}}
{{- define "headrace.pod" -}}
automountServiceAccountToken: {{ .token | default false }}
{{- with .account }}
serviceAccountName: {{ include "headrace.fullname" $.root }}-{{ . }}
{{- end }}
{{- include "headrace.pullSecrets" .root }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .uid | default 10001 }}
  runAsGroup: {{ .uid | default 10001 }}
  fsGroup: {{ .uid | default 10001 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "headrace.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  privileged: false
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* (dict "root" $ "component" "gateway" "scheduling" .Values.gateway.scheduling) */}}
{{- define "headrace.scheduling" -}}
{{- with .scheduling.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .scheduling.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .scheduling.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .scheduling.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if .scheduling.topologySpread }}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "headrace.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Metadata of a pod: the component's labels and whatever its values add. (dict "root" $ "component" "gateway" "values" .Values.gateway) */}}
{{- define "headrace.podMetadata" -}}
labels:
  {{- include "headrace.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A folder for what libraries write on the way; nothing is kept there. */}}
{{- define "headrace.tmpVolume" -}}
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- end -}}

{{/* A container that ends once the database's schema serves this release. */}}
{{- define "headrace.awaitSchema" -}}
- name: schema
  image: {{ include "headrace.image" (dict "root" . "image" "billing") }}
  imagePullPolicy: {{ .Values.images.pullPolicy }}
  args: [wait-schema]
  env:
    {{- include "headrace.databaseEnv" . | nindent 4 }}
  resources:
    {{- toYaml .Values.migrations.resources | nindent 4 }}
  {{- include "headrace.containerSecurity" . | nindent 2 }}
{{- end -}}
