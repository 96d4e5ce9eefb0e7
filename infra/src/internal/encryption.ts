// The customer's key, if there is one: who may use it, and for what.
import { Annotations, Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import { Construct } from 'constructs';
import { logGroupArns } from './names';

/** The two services that use the key by themselves, without one of our roles: the bus fills the queues, Logs writes the logs. */
export function admitServices(scope: Construct, key: kms.IKey, pipeline: string): void {
  const stack = Stack.of(scope);
  const added = [
    new iam.PolicyStatement({
      sid: 'EventsToEncryptedQueues',
      principals: [new iam.ServicePrincipal('events.amazonaws.com')],
      actions: ['kms:Decrypt', 'kms:GenerateDataKey'],
      resources: ['*'], // in a key policy: this key
      // The rules' ARNs would close a circle (rule -> queue -> key); the queue's own policy names the rule.
      conditions: { StringEquals: { 'aws:SourceAccount': stack.account } },
    }),
    new iam.PolicyStatement({
      sid: 'EncryptedLogs',
      principals: [new iam.ServicePrincipal(`logs.${stack.region}.amazonaws.com`)],
      actions: ['kms:Encrypt', 'kms:Decrypt', 'kms:ReEncrypt*', 'kms:GenerateDataKey*', 'kms:DescribeKey'],
      resources: ['*'], // in a key policy: this key
      conditions: { ArnLike: { 'kms:EncryptionContext:aws:logs:arn': logGroupArns(stack, pipeline) } },
    }),
  ].map((statement) => key.addToResourcePolicy(statement).statementAdded);

  if (!added.every(Boolean)) {
    Annotations.of(scope).addWarningV2(
      '@ecr-scan-verifier:keyPolicyNotChanged',
      `The policy of encryptionKey cannot be changed from here. It has to let events.amazonaws.com use kms:Decrypt and kms:GenerateDataKey, and CloudWatch Logs (logs.<region>.amazonaws.com) encrypt the log groups /aws/lambda/ecr-scan-verifier-${pipeline}-*; else no event arrives.`,
    );
  }
}

const EVERY_USE = ['kms:Decrypt', 'kms:DescribeKey', 'kms:Encrypt', 'kms:GenerateDataKey*', 'kms:ReEncrypt*'];

/** Only through the services that hold our things: the role cannot use the key on anything else. */
export function keyUse(stack: Stack, key: kms.IKey, services: string[], sid = 'Key', actions = EVERY_USE): iam.PolicyStatement {
  return new iam.PolicyStatement({
    sid,
    actions,
    resources: [key.keyArn],
    conditions: { StringEquals: { 'kms:ViaService': services.map((service) => `${service}.${stack.region}.amazonaws.com`) } },
  });
}

/** Through the service that encrypts with it alone. A key of another account has to let the role in by its own policy. */
export function mayUseKey(grantee: iam.IGrantable, key: kms.IKey | undefined, service: string, actions: string[]): void {
  if (key) {
    iam.Grant.addToPrincipal({
      grantee,
      actions,
      resourceArns: [key.keyArn],
      conditions: { StringEquals: { 'kms:ViaService': `${service}.${Stack.of(key).region}.amazonaws.com` } },
    });
  }
}
