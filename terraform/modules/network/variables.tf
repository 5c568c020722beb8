variable "name" {
  description = "Prefix of everything in this network."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,23}$", var.name))
    error_message = "name: 3 to 24 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "region" {
  description = "AWS region; the endpoints' service names carry it."
  type        = string
}

variable "cidr" {
  description = "Address range of the VPC. Each zone gets a sixteenth of it for nodes and pods."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && can(regex("/(16|17|18|19|20)$", var.cidr))
    error_message = "cidr: an IPv4 range between /16 and /20; pods take an address each."
  }
}

variable "zones" {
  description = "Availability zones, by name. A pool that uses a capacity reservation needs the reservation's zone here."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 6 && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones: two to six different zones; EKS and Aurora need two."
  }
}

variable "egress" {
  description = "Whether private subnets reach the internet through a NAT gateway in each zone. Payments need it; serving does not."
  type        = bool
  default     = true
}
