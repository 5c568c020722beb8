{{- define "headrace.externalStore" -}}
refreshInterval: {{ .Values.externalSecrets.refreshInterval }}
secretStoreRef:
  kind: {{ .Values.externalSecrets.storeRef.kind }}
  name: {{ .Values.externalSecrets.storeRef.name }}
{{- end -}}
