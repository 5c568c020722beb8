{{/*
What the operator is told of the cluster that it works in: `headrace_platform.control.environment.Environment`.
A test decodes what this renders with that very type.
*/}}
{{- define "headrace.operatorEnvironment" -}}
{{- $values := .Values -}}
{{- $image := $values.images.engine -}}
{{- $registry := $values.global.imageRegistry | default $image.registry | trimSuffix "/" -}}
{{- $environment := dict
      "engineImage" (dict
        "repository" (ternary $image.repository (printf "%s/%s" $registry $image.repository) (empty $registry))
        "digest" $image.digest)
      "pullSecrets" $values.global.imagePullSecrets
      "gpuProfiles" $values.gpuProfiles
      "head" $values.engine.head
      "gateway" (dict
        "pods" (include "headrace.podsOf" (dict "root" . "component" "gateway") | fromYaml)
        "routesConfigMap" "headrace-deployments"
        "serviceName" (printf "%s-gateway" (include "headrace.fullname" .))
        "servicePort" $values.gateway.service.port)
      "kuberay" $values.cluster.kubeRay
      "operator" (include "headrace.podsOf" (dict "root" . "component" "operator") | fromYaml)
      "dns" $values.cluster.dns
      "apiServer" $values.cluster.apiServer
      "weights" $values.engine.weightsFrom
      "hostPaths" $values.engine.hostPaths
      "hostnames" $values.engine.hostnames
      "engineArguments" $values.engine.arguments
      "billing" (dict
        "recordsUrl" (printf "http://%s-billing.%s.svc.%s:%v/internal/v1/engine-records" (include "headrace.fullname" .) .Release.Namespace $values.cluster.domain $values.billing.service.port)
        "ingestToken" (dict "name" $values.auth.existingSecret "key" $values.auth.ingestTokenKey)
        "destination" (dict
          "port" 8081
          "pods" (include "headrace.podsOf" (dict "root" . "component" "billing") | fromYaml)))
      "clusterDomain" $values.cluster.domain
      "longestStreamSeconds" (int64 $values.gateway.requestTimeoutSeconds)
      "quotas" $values.engine.quotas
      "sharedQuota" $values.engine.sharedQuota -}}
{{- if $values.engine.serviceAccount.create -}}
{{- $_ := set $environment "serviceAccountName" "headrace-engine" -}}
{{- end -}}
{{- /* For ModelDeployments with an image of their own: there a registry is a host alone. */ -}}
{{- with $values.global.imageRegistry -}}
{{- if regexMatch "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" . -}}
{{- $_ := set $environment "registry" . -}}
{{- end -}}
{{- end -}}
{{- with $values.cluster.gateway -}}
{{- if .name -}}
{{- $_ := set $environment.gateway "parentName" .name -}}
{{- $_ := set $environment.gateway "parentNamespace" (.namespace | default $.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- if $values.cluster.prometheus.namespace -}}
{{- $_ := set $environment "monitoring" $values.cluster.prometheus -}}
{{- end -}}
{{- with $values.engine.weightsStorageClass -}}
{{- $_ := set $environment "weightsStorageClass" . -}}
{{- end -}}
{{- if $values.engine.upgradeGateway.className -}}
{{- $_ := set $environment "upgradeGateway" $values.engine.upgradeGateway -}}
{{- end -}}
{{- if $values.evaluation.enabled -}}
{{- $_ := set $environment "gcs" (dict
      "address" (printf "redis://%s-gcs.%s.svc.%s:6379" (include "headrace.fullname" .) .Release.Namespace $values.cluster.domain)
      "password" (dict "name" $values.evaluation.existingSecret "key" $values.evaluation.gcsPasswordKey)
      "destination" (dict "port" 6379 "pods" (include "headrace.podsOf" (dict "root" . "component" "gcs") | fromYaml))) -}}
{{- else -}}
{{- $_ := set $environment "gcs" (dict
      "address" $values.gcs.address
      "password" (dict "name" $values.gcs.existingSecret "key" $values.gcs.passwordKey)
      "destination" (dict "port" (regexFind "[0-9]+$" $values.gcs.address | int64) "cidrs" $values.gcs.cidrs)) -}}
{{- end -}}
{{- toPrettyJson $environment -}}
{{- end -}}

{{/* A component's pods as the operator names pods. (dict "root" $ "component" "gateway") */}}
{{- define "headrace.podsOf" -}}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "headrace.selector" . | nindent 2 }}
{{- end -}}
