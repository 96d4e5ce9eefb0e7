// Whose signatures count: which choices are refused, how they travel, and what the functions need to check them.
import { Stack, Token } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import { Construct } from 'constructs';
import { SignatureVerificationBindOutput } from '../signature-verification';
import { anyKeyArn } from './names';

export const SEVERAL = ['ALL_OF', 'ANY_OF'];

/** Each costs calls to ECR and to whoever keeps its key, while a deployment waits. */
const MOST_SIGNERS = 10;

export function checkCount(signers: readonly unknown[]): void {
  if (signers.length < 1 || signers.length > MOST_SIGNERS) {
    throw new Error(`signers must contain 1 to ${MOST_SIGNERS} signers, got ${signers.length}.`);
  }
}

/** How several signers are asked together, nobody could say if each of them said it for itself. */
export function checkTogether(type: string, signers: SignatureVerificationBindOutput[]): void {
  const factory = type === 'ALL_OF' ? 'allOf' : 'anyOf';
  signers.forEach((signer, n) => {
    if (SEVERAL.includes(signer.type)) {
      throw new Error(`signers[${n}] of SignatureVerification.${factory}() is made of several signers itself. They do not nest: list its signers here, or make a gate for each.`);
    }
    if (!signer.failOnUnsigned) {
      throw new Error(
        `signers[${n}] of SignatureVerification.${factory}() has failOnUnsigned: false, which cannot hold for one of several signers alone. Give it to ${factory}({ signers, failOnUnsigned: false }), or leave it out.`,
      );
    }
  });
}

const PROFILE = /^arn:aws[a-z-]*:signer:[a-z0-9-]+:\d{12}:\/signing-profiles\/\w{2,64}(\/[A-Za-z0-9]{10})?$/;

export function checkIdentities(identities: string[]): void {
  if (Token.isUnresolved(identities)) {
    return;
  }
  if (identities.length === 0) {
    throw new Error('trustedIdentities must contain at least one signing profile ARN.');
  }
  for (const identity of identities) {
    if (identity.trim() === '*') {
      throw new Error("trustedIdentities contains '*': it would trust everybody who has an account with AWS Signer. Name the signing profiles.");
    }
    if (!Token.isUnresolved(identity) && !PROFILE.test(identity)) {
      throw new Error(
        `trustedIdentities contains '${identity}', which is no ARN of a signing profile: write arn:aws:signer:<region>:<account>:/signing-profiles/<name>, and /<version> after it (10 letters and digits) to trust that version alone.`,
      );
    }
  }
}

const KEY = /^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(key\/[A-Za-z0-9-]+|alias\/[A-Za-z0-9/_-]+)$/;
const SIGNING_SPECS = ['ECC_NIST_P256', 'ECC_NIST_P384', 'ECC_NIST_P521', 'RSA_2048', 'RSA_3072', 'RSA_4096'];
const AS_IN = 'Make it with keySpec: kms.KeySpec.ECC_NIST_P256 and keyUsage: kms.KeyUsage.SIGN_VERIFY.';

export function checkKey(key: kms.IKey): void {
  const arn = key.keyArn;
  if (!Token.isUnresolved(arn) && !KEY.test(arn)) {
    throw new Error(
      `key has the ARN '${arn}', which is that of no KMS key: write arn:aws:kms:<region>:<account>:key/<id>, or alias/<name> in the place of key/<id>.`,
    );
  }
  const alias = aliasOf(key);
  if (alias?.startsWith('alias/aws/')) {
    throw new Error(`key is '${alias}', a key that AWS manages: these sign nothing. Use a key of your own. ${AS_IN}`);
  }
  const made = (key instanceof kms.Alias ? key.aliasTargetKey : key).node.defaultChild;
  if (made instanceof kms.CfnKey) {
    checkKind(made);
  }
}

function checkKind({ node, keyUsage = 'ENCRYPT_DECRYPT', keySpec = 'SYMMETRIC_DEFAULT' }: kms.CfnKey): void {
  if (!Token.isUnresolved(keyUsage) && keyUsage !== 'SIGN_VERIFY') {
    throw new Error(`key '${node.scope?.node.path}' is a key for ${keyUsage}: nobody can sign with it. ${AS_IN}`);
  }
  if (!Token.isUnresolved(keySpec) && !SIGNING_SPECS.includes(keySpec)) {
    throw new Error(`key '${node.scope?.node.path}' has the key spec ${keySpec}, by which Cosign does not sign: it takes ${SIGNING_SPECS.join(', ')}. ${AS_IN}`);
  }
}

/** The name of an alias, where the key is named by one. The CDK has no type for "a key or an alias" that an import keeps. */
export function aliasOf(key: kms.IKey): string | undefined {
  return (key as { readonly aliasName?: string }).aliasName;
}

/** The partitions for which the functions know the root certificate of AWS Signer. */
const KNOWN_ROOTS = ['aws', 'aws-us-gov'];

/** What can only be said where the gate is: a signature of another partition can be asked of nobody. */
export function checkPartitions(scope: Construct, bound: SignatureVerificationBindOutput): void {
  const ours = partitionOf(Stack.of(scope).region);
  for (const { type, trustedIdentities = [], trustedRoots, kmsKeyArn } of signersOf(bound)) {
    const arns = Token.isUnresolved(trustedIdentities) ? [] : trustedIdentities;
    for (const [what, arn] of [...arns.map((identity) => ['trustedIdentities contains', identity]), ['key is', kmsKeyArn ?? '']] as [string, string][]) {
      const theirs = Token.isUnresolved(arn) ? undefined : arn.split(':')[1];
      if (ours && theirs && theirs !== ours) {
        throw new Error(
          `${what} '${arn}', of partition ${theirs}, but stack '${Stack.of(scope).stackName}' deploys to partition ${ours}, from where nobody can ask for it. Use one of ${ours}.`,
        );
      }
    }
    const partitions = [ours, ...arns.filter((arn) => !Token.isUnresolved(arn)).map((arn) => arn.split(':')[1])];
    const unknown = partitions.find((partition) => partition && !KNOWN_ROOTS.includes(partition));
    if (type === 'NOTATION' && !trustedRoots?.length && unknown) {
      throw new Error(
        `trustedIdentities cannot be checked in partition ${unknown}: the root certificate of AWS Signer is known for ${KNOWN_ROOTS.join(' and ')} alone. Give that of ${unknown} as trustedRoots (PEM), if you have it from AWS.`,
      );
    }
  }
}

const PARTITIONS: [string, string][] = [
  ['cn-', 'aws-cn'],
  ['us-gov-', 'aws-us-gov'],
  ['us-iso-', 'aws-iso'],
  ['us-isob-', 'aws-iso-b'],
  ['eu-isoe-', 'aws-iso-e'],
  ['us-isof-', 'aws-iso-f'],
  ['eusc-', 'aws-eusc'],
];

/** By the region: the partition of a stack is always a token, also where its region is known. */
function partitionOf(region: string): string | undefined {
  return Token.isUnresolved(region) ? undefined : (PARTITIONS.find(([prefix]) => region.startsWith(prefix))?.[1] ?? 'aws');
}

export function signersOf(bound: SignatureVerificationBindOutput): SignatureVerificationBindOutput[] {
  return bound.signers ?? [bound];
}

/** As it travels. One answer for all signers, so only the outermost says what becomes of an unsigned image. */
export function signaturesText(bound: SignatureVerificationBindOutput): object {
  const signers = bound.signers?.map((signer) => ({ ...signer, failOnUnsigned: undefined }));
  return { ...bound, ...(signers && { signers }), failOnUnsigned: String(bound.failOnUnsigned) };
}

/** What an explicit pipeline needs: who its gates will trust is not known where it is made. */
export function grantsForAnySigner(stack: Stack, repositoryArns: string[]): iam.PolicyStatement[] {
  return [
    new iam.PolicyStatement({ sid: 'Signatures', ...readSignatures(repositoryArns) }),
    // A public key is public. Whether this account may read it, the key's own policy says.
    new iam.PolicyStatement({ sid: 'KeysOfSigners', actions: ['kms:GetPublicKey'], resources: [anyKeyArn(stack)] }),
    new iam.PolicyStatement({ sid: 'Revocations', ...askForRevocations }),
  ];
}

/** What one gate's signers need. Without ids: gates of a stack may need the same, which is then said once. */
export function grantsForSigners(
  stack: Stack,
  repositoryArn: string,
  bound: SignatureVerificationBindOutput,
  aliases: ReadonlyMap<string, string>,
): iam.PolicyStatement[] {
  const signers = signersOf(bound);
  const keys = signers.flatMap(({ kmsKeyArn }) => kmsKeyArn ?? []).map((arn) => mayRead(stack, arn, aliases.get(arn)));
  const revocations = signers.some(({ type }) => type === 'NOTATION') ? [new iam.PolicyStatement(askForRevocations)] : [];
  return [new iam.PolicyStatement(readSignatures([repositoryArn])), ...keys, ...revocations];
}

/** What else it takes (BatchGetImage, by which ListImageReferrers is allowed too) they have anyway. */
function readSignatures(repositoryArns: string[]): iam.PolicyStatementProps {
  return { actions: ['ecr:GetDownloadUrlForLayer'], resources: repositoryArns };
}

// Signer's action has no resource: IAM knows it only with `*`.
const askForRevocations: iam.PolicyStatementProps = { actions: ['signer:GetRevocationStatus'], resources: ['*'] };

function mayRead(stack: Stack, arn: string, alias?: string): iam.PolicyStatement {
  const named = { actions: ['kms:GetPublicKey'], resources: [arn] };
  // An alias as the resource would allow nothing: to IAM the resource is the key behind it.
  const byAlias = { ...named, resources: [anyKeyArn(stack)], conditions: { StringEquals: { 'kms:RequestAlias': alias } } };
  return new iam.PolicyStatement(alias === undefined ? named : byAlias);
}
