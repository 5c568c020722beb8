variable "cluster_name" {
  description = "EKS cluster whose pods get the roles."
  type        = string
}

variable "services" {
  description = "What each service may do in AWS, keyed by a short name: read or write weights, read named secrets, use the keys these need."
  type = map(object({
    namespace       = string
    service_account = string
    reads_bucket    = optional(string)
    writes_bucket   = optional(string)
    reads_secrets   = optional(list(string), [])
    keys            = optional(list(string), [])
  }))

  validation {
    condition     = alltrue([for service in var.services : service.reads_bucket != null || service.writes_bucket != null || length(service.reads_secrets) > 0])
    error_message = "services: a service that may do nothing needs no role."
  }
  validation {
    condition     = alltrue([for service in var.services : !strcontains(join("", concat(service.reads_secrets, service.keys, compact([service.reads_bucket, service.writes_bucket]))), "*")])
    error_message = "services: name each resource by its whole ARN; wildcards are refused."
  }
  validation {
    condition     = length(distinct([for service in var.services : "${service.namespace}/${service.service_account}"])) == length(var.services)
    error_message = "services: a service account has one role."
  }
}
