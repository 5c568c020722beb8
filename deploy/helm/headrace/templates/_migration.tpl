{{- define "headrace.migrationSpec" -}}
{{- $values := .root.Values.migrations -}}
backoffLimit: 6
activeDeadlineSeconds: {{ $values.deadlineSeconds }}
template:
  metadata:
    labels:
      {{- include "headrace.labels" . | nindent 6 }}
  spec:
    {{- include "headrace.pod" (dict "root" .root) | nindent 4 }}
    restartPolicy: OnFailure
    containers:
      - name: migrate
        image: {{ include "headrace.image" (dict "root" .root "image" "billing") }}
        imagePullPolicy: {{ .root.Values.images.pullPolicy }}
        args: [migrate]
        env:
          {{- include "headrace.databaseEnv" .root | nindent 10 }}
        resources:
          {{- toYaml $values.resources | nindent 10 }}
        {{- include "headrace.containerSecurity" . | nindent 8 }}
{{- end -}}

{{- define "headrace.migrationPolicy" -}}
{{- $component := dict "root" .root "component" "migration" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "headrace.fullname" .root }}-migration
  labels:
    {{- include "headrace.labels" $component | nindent 4 }}
  {{- if .hook }}
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-weight: "-10"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  {{- end }}
spec:
  podSelector:
    matchLabels:
      {{- include "headrace.selector" $component | nindent 6 }}
  policyTypes: [Ingress, Egress]
  egress:
    {{- include "headrace.egressDns" .root | nindent 4 }}
    {{- include "headrace.egressDatabase" .root | nindent 4 }}
{{- end -}}
