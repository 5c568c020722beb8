{{/* What a schema can't say: values that need each other, and what the cluster must know. Each message says what to do. */}}
{{- define "headrace.checks" -}}
{{- if not .Values.auth.existingSecret -}}
{{- fail "auth.existingSecret is needed: the name of a Secret with the keys admin-token, ingest-token and signing-key. The chart makes no secrets; docs/guides/partner.md has the commands." -}}
{{- end -}}
{{- if .Values.evaluation.enabled -}}
{{- if not .Values.evaluation.existingSecret -}}
{{- fail "evaluation.existingSecret is needed: the name of a Secret with the keys postgres-password, valkey-password and gcs-password." -}}
{{- end -}}
{{- if or .Values.database.existingSecret .Values.valkey.existingSecret .Values.gcs.existingSecret -}}
{{- fail "evaluation.enabled and an external database or Valkey exclude each other: unset evaluation.enabled, or database.existingSecret, valkey.existingSecret and gcs.existingSecret." -}}
{{- end -}}
{{- else -}}
{{- range list "database" "valkey" "gcs" -}}
{{- if not (index $.Values . "existingSecret") -}}
{{- fail (printf "%s.existingSecret is needed: the name of a Secret (values.yaml says what is in it). To try Headrace out without a database of your own, set evaluation.enabled." .) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.operator.enabled (or (not .Values.gcs.address) (not .Values.gcs.cidrs)) -}}
{{- fail "gcs.address and gcs.cidrs are needed: where the Valkey for Ray's heads is, and the networks that it is in." -}}
{{- end -}}
{{- end -}}
{{- if and .Values.operator.enabled (not .Values.images.engine.digest) -}}
{{- fail "images.engine.digest is needed: engines run by digest alone, since a tag may be something else on half of the nodes. Building and pushing the image prints it." -}}
{{- end -}}
{{- if and .Values.cluster.checkKubeRay .Values.operator.enabled (not (.Capabilities.APIVersions.Has "ray.io/v1/RayService")) -}}
{{- fail "KubeRay is not in this cluster: install its operator (1.7 or newer) and its definitions first, with `helm install kuberay-operator`, or set cluster.checkKubeRay=false for a render without a cluster." -}}
{{- end -}}
{{- if and .Values.stripe.existingSecret (not .Values.stripe.returnUrl) -}}
{{- fail "stripe.returnUrl is needed with stripe.existingSecret: where Stripe's pages send customers back to, an https address." -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is needed: the Gateway that the route attaches to." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.host is needed." -}}
{{- end -}}
{{- if .Values.externalSecrets.enabled -}}
{{- if not .Values.externalSecrets.storeRef.name -}}
{{- fail "externalSecrets.storeRef.name is needed: the store that the secrets come from." -}}
{{- end -}}
{{- range ternary (list "auth") (list "auth" "database" "valkey" "gcs") .Values.evaluation.enabled -}}
{{- if not (index $.Values.externalSecrets . "key") -}}
{{- fail (printf "externalSecrets.%s.key is needed: the store's entry for it." .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $component, $values := dict "gateway" .Values.gateway.autoscaling "billing" .Values.billing.autoscaling -}}
{{- if gt (int $values.minReplicas) (int $values.maxReplicas) -}}
{{- fail (printf "%s.autoscaling: minReplicas is above maxReplicas." $component) -}}
{{- end -}}
{{- end -}}
{{- range list "responses" "answers" -}}
{{- if gt (int64 (index $.Values.gateway (printf "%sOrgBytesMax" .))) (int64 (index $.Values.gateway (printf "%sBytesMax" .))) -}}
{{- fail (printf "gateway.%sOrgBytesMax is above gateway.%sBytesMax." . .) -}}
{{- end -}}
{{- end -}}
{{- range $name, $deployment := .Values.modelDeployments -}}
{{- if not (hasKey $.Values.gpuProfiles $deployment.accelerator.profile) -}}
{{- fail (printf "modelDeployments.%s: there is no gpuProfiles.%s." $name $deployment.accelerator.profile) -}}
{{- end -}}
{{- end -}}
{{- end -}}
