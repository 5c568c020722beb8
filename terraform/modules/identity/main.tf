# A role for each service that needs something of AWS, and nothing for those that need nothing (the gateway and
# billing meet Valkey and Postgres by passwords in Kubernetes secrets).

locals {
  # Weights are read by listing and getting; only whoever loads them may put, and nobody deletes old versions.
  statements = {
    for name, service in var.services : name => concat(
      service.reads_bucket == null ? [] : [
        { Effect = "Allow", Action = ["s3:ListBucket"], Resource = [service.reads_bucket] },
        { Effect = "Allow", Action = ["s3:GetObject"], Resource = ["${service.reads_bucket}/*"] },
      ],
      service.writes_bucket == null ? [] : [
        { Effect = "Allow", Action = ["s3:ListBucket"], Resource = [service.writes_bucket] },
        { Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], Resource = ["${service.writes_bucket}/*"] },
      ],
      length(service.reads_secrets) == 0 ? [] : [
        { Effect = "Allow", Action = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"], Resource = service.reads_secrets },
      ],
      length(service.keys) == 0 ? [] : [
        { Effect = "Allow", Action = service.writes_bucket == null ? ["kms:Decrypt"] : ["kms:Decrypt", "kms:GenerateDataKey"], Resource = service.keys },
      ],
    )
  }
}

resource "aws_iam_role" "this" {
  for_each = var.services

  name_prefix = "${substr(var.cluster_name, 0, 16)}-${substr(each.key, 0, 16)}-"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  for_each = var.services

  name   = each.key
  role   = aws_iam_role.this[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements[each.key] })
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = var.services

  cluster_name    = var.cluster_name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  role_arn        = aws_iam_role.this[each.key].arn
}
