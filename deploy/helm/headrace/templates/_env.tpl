{{/* Secrets and addresses, one definition for every process that needs them, so that no two can differ. */}}

{{- define "headrace.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end -}}

{{- define "headrace.databaseEnv" -}}
{{- if .Values.evaluation.enabled -}}
{{ include "headrace.secretEnv" (dict "name" "POSTGRES_PASSWORD" "secret" .Values.evaluation.existingSecret "key" .Values.evaluation.postgresPasswordKey) }}
- name: HEADRACE_BILLING_DATABASE_URL
  value: postgresql://headrace:$(POSTGRES_PASSWORD)@{{ include "headrace.fullname" . }}-postgres:5432/headrace
{{- else -}}
{{ include "headrace.secretEnv" (dict "name" "HEADRACE_BILLING_DATABASE_URL" "secret" .Values.database.existingSecret "key" .Values.database.urlKey) }}
{{- end -}}
{{- end -}}

{{/* (dict "root" $ "prefix" "HEADRACE_GATEWAY_") */}}
{{- define "headrace.valkeyEnv" -}}
{{- $values := .root.Values -}}
{{- if $values.evaluation.enabled -}}
{{ include "headrace.secretEnv" (dict "name" "VALKEY_PASSWORD" "secret" $values.evaluation.existingSecret "key" $values.evaluation.valkeyPasswordKey) }}
- name: {{ .prefix }}VALKEY_URL
  value: redis://:$(VALKEY_PASSWORD)@{{ include "headrace.fullname" .root }}-valkey:6379/0
{{- else -}}
{{ include "headrace.secretEnv" (dict "name" (printf "%sVALKEY_URL" .prefix) "secret" $values.valkey.existingSecret "key" $values.valkey.urlKey) }}
{{- end -}}
{{- end -}}

{{- define "headrace.ingestTokenEnv" -}}
{{ include "headrace.secretEnv" (dict "name" (printf "%sINGEST_TOKEN" .prefix) "secret" .root.Values.auth.existingSecret "key" .root.Values.auth.ingestTokenKey) }}
{{- end -}}

{{/* What the API and the worker of billing share. */}}
{{- define "headrace.billingEnv" -}}
{{ include "headrace.databaseEnv" . }}
{{ include "headrace.valkeyEnv" (dict "root" . "prefix" "HEADRACE_BILLING_") }}
{{ include "headrace.secretEnv" (dict "name" "HEADRACE_BILLING_SIGNING_KEY" "secret" .Values.auth.existingSecret "key" .Values.auth.signingKeyKey) }}
{{ include "headrace.ingestTokenEnv" (dict "root" . "prefix" "HEADRACE_BILLING_") }}
- name: HEADRACE_BILLING_GATEWAY_URL
  value: {{ include "headrace.gatewayUrl" . }}
- name: HEADRACE_BILLING_DRAIN_WAIT_SECONDS
  value: {{ .Values.billing.drainWaitSeconds | quote }}
{{- with .Values.stripe }}
{{- if .existingSecret }}
{{ include "headrace.secretEnv" (dict "name" "HEADRACE_BILLING_STRIPE_API_KEY" "secret" .existingSecret "key" .apiKeyKey) }}
{{ include "headrace.secretEnv" (dict "name" "HEADRACE_BILLING_STRIPE_WEBHOOK_SECRETS" "secret" .existingSecret "key" .webhookSecretsKey) }}
- name: HEADRACE_BILLING_PAYMENTS_RETURN_URL
  value: {{ .returnUrl | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "headrace.metricsEnv" -}}
- name: HEADRACE_BILLING_METRICS_HOST
  value: 0.0.0.0
- name: HEADRACE_BILLING_METRICS_PORT
  value: "9091"
{{- end -}}

{{- define "headrace.billingUrl" -}}
http://{{ include "headrace.fullname" . }}-billing:{{ .Values.billing.service.port }}
{{- end -}}

{{- define "headrace.gatewayUrl" -}}
http://{{ include "headrace.fullname" . }}-gateway:{{ .Values.gateway.service.port }}
{{- end -}}

{{/*
Whatever else a process can be told. (dict "values" .Values.gateway "prefix" "HEADRACE_GATEWAY_")
The schema refuses what the chart sets itself: a variable given twice would be whichever comes last.
*/}}
{{- define "headrace.furtherEnv" -}}
{{- $prefix := .prefix -}}
{{- range $name, $value := .values.settings }}
- name: {{ $prefix }}{{ $name }}
  {{- /* As JSON, since a number printed as text may become 3.5e+07. */}}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- range $name, $secret := .values.secretSettings }}
{{ include "headrace.secretEnv" (dict "name" (printf "%s%s" $prefix $name) "secret" $secret.name "key" $secret.key) }}
{{- end }}
{{- end -}}

{{/* The paths that clients use, for whatever leads to the gateway from outside. Health and metrics stay inside. */}}
{{- define "headrace.clientPaths" -}}
- /v1
- /api
{{- end -}}

{{/* The one path of billing's that the outside reaches, where customers pay: Stripe's webhooks, each signed. */}}
{{- define "headrace.webhookPath" -}}
/v1/stripe/webhook
{{- end -}}
