// Inspector writes a bill of materials by itself, into a bucket and with a key that are not its own: who may ask it to, and
// how it is let in.
import { Annotations, Stack, Token } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as s3 from 'aws-cdk-lib/aws-s3';
import { RegionInfo } from 'aws-cdk-lib/region-info';
import { Construct, IDependable } from 'constructs';
import { everythingBelow } from './destinations';

export function mayAskForSboms(grantee: iam.IGrantable): void {
  iam.Grant.addToPrincipal({
    grantee,
    actions: ['inspector2:CreateSbomExport', 'inspector2:GetSbomExport'],
    resourceArns: ['*'], // an export is no resource: IAM knows these actions only with `*`, and with no condition of their own
  });
}

/** Inspector says below which prefix it has written, not under which key. */
export function mayListBelow(grantee: iam.IGrantable, bucket: s3.IBucket, prefix?: string): void {
  iam.Grant.addToPrincipalOrResource({
    grantee,
    actions: ['s3:ListBucket'],
    resourceArns: [bucket.bucketArn],
    resource: bucket,
    conditions: prefix ? { StringLike: { 's3:prefix': everythingBelow(prefix) } } : undefined,
  });
}

/** Lets Inspector in for reports of the account and region that the grantee asks from, and for nobody else's. */
export function admitInspector(grantee: iam.IGrantable, bucket: s3.IBucket, key: kms.IKey): void {
  const asker = Construct.isConstruct(grantee.grantPrincipal) ? grantee.grantPrincipal : undefined;
  const stack = Stack.of(asker ?? bucket);
  const { account } = stack;
  const own = {
    principals: [new iam.ServicePrincipal(inspectorIn(stack.region))],
    conditions: {
      StringEquals: { 'aws:SourceAccount': account },
      ArnLike: { 'aws:SourceArn': stack.formatArn({ service: 'inspector2', account, resource: 'report', resourceName: '*' }) },
    },
  };
  const intoBucket = bucket.addToResourcePolicy(
    new iam.PolicyStatement({
      ...own,
      sid: 'InspectorWritesSboms',
      actions: ['s3:AbortMultipartUpload', 's3:PutObject'],
      resources: [bucket.arnForObjects('*')], // as Inspector documents it: nowhere is it said that it only tries the prefix
    }),
  );
  if (!intoBucket.statementAdded) {
    warn(bucket, 'sbomBucketPolicyNotChanged', 'bucket', 's3:PutObject and s3:AbortMultipartUpload on its objects', account);
  }
  waitFor(asker, intoBucket.policyDependable);

  const withKey = key.addToResourcePolicy(
    new iam.PolicyStatement({
      ...own,
      sid: 'InspectorEncryptsSboms',
      actions: ['kms:Decrypt', 'kms:GenerateDataKey*'],
      resources: ['*'], // in a key policy: this key
    }),
  );
  if (!withKey.statementAdded) {
    warn(key, 'sbomKeyPolicyNotChanged', 'encryptionKey', 'kms:Decrypt and kms:GenerateDataKey*', account);
  }
}

// In regions that an account has to opt into, the service has a name of its own in each.
function inspectorIn(region: string): string {
  const optIn = !Token.isUnresolved(region) && RegionInfo.get(region).isOptInRegion;
  return optIn ? `inspector2.${region}.amazonaws.com` : 'inspector2.amazonaws.com';
}

function warn(scope: Construct | s3.IBucket | kms.IKey, id: string, what: string, actions: string, account: string): void {
  const whose = Token.isUnresolved(account) ? 'of this account' : account;
  Annotations.of(scope).addWarningV2(
    `@ecr-scan-verifier:${id}`,
    `The policy of the ${what} of sbomOutput ('${scope.node.path}') cannot be changed from here. It has to let inspector2.amazonaws.com use ${actions}, with the conditions aws:SourceAccount (${whose}) and aws:SourceArn (arn:<partition>:inspector2:<region>:<account>:report/*); else no bill of materials is written.`,
  );
}

// The gate waits for the role, so the role waits for what Inspector needs.
function waitFor(asker: Construct | undefined, needed: IDependable | undefined): void {
  if (asker && needed) {
    asker.node.addDependency(needed);
  }
}
