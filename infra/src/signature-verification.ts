import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import { Needs } from './internal/destinations';
import { checkPublicKeys, checkRoots } from './internal/pem';
import { aliasOf, checkCount, checkIdentities, checkKey, checkTogether } from './internal/signatures';

/**
 * What a verification of signatures comes down to, in the words of the gate.
 */
export interface SignatureVerificationBindOutput {
  /**
   * Whose signatures count: `NOTATION` or `COSIGN`; `ALL_OF` or `ANY_OF` where `signers` says it.
   */
  readonly type: string;

  /**
   * The ARNs of the signing profiles whose signatures count (Notation).
   *
   * @default - signatures are not checked by signing profile
   */
  readonly trustedIdentities?: string[];

  /**
   * The root certificates that count in the place of AWS Signer's, in PEM (Notation).
   *
   * @default - those of AWS Signer
   */
  readonly trustedRoots?: string[];

  /**
   * The key that has to have signed, in PEM (Cosign).
   *
   * @default - no key of this kind
   */
  readonly publicKey?: string;

  /**
   * The ARN of the KMS key that has to have signed (Cosign).
   *
   * @default - no key of this kind
   */
  readonly kmsKeyArn?: string;

  /**
   * The signers that are asked together (`ALL_OF`, `ANY_OF`).
   *
   * @default - the one that the other members tell of
   */
  readonly signers?: SignatureVerificationBindOutput[];

  /**
   * Whether an image without a signature that counts is refused.
   */
  readonly failOnUnsigned: boolean;
}

/**
 * What every verification of signatures can be told.
 */
export interface VerificationOptions {
  /**
   * Refuses an image that has no signature, or none that counts.
   *
   * With `false` such an image is let through as far as signatures go, and somebody is told. An image whose signatures could
   * not be looked at is refused either way.
   *
   * @default true
   */
  readonly failOnUnsigned?: boolean;
}

/**
 * Choices for signatures made with Notation and AWS Signer.
 */
export interface NotationVerificationOptions extends VerificationOptions {
  /**
   * The ARNs of the signing profiles whose signatures count; at least one.
   *
   * `arn:aws:signer:<region>:<account>:/signing-profiles/<name>` trusts every version of the profile; with `/<version>` after
   * it, that version alone.
   */
  readonly trustedIdentities: string[];

  /**
   * Root certificates that count in the place of AWS Signer's, in PEM: a text for each, or several in one.
   *
   * Needed in a partition whose root this package does not know: it knows those of `aws` and `aws-us-gov`. Whoever has the
   * key of such a root can sign in the name of every profile.
   *
   * @default - the root of AWS Signer in the partition of the stack
   */
  readonly trustedRoots?: string[];
}

/**
 * Choices for signatures made with Cosign, checked by a public key.
 */
export interface CosignPublicKeyVerificationOptions extends VerificationOptions {
  /**
   * The public key that has to have signed, in PEM: ECDSA (P-256, P-384, P-521), RSA or Ed25519.
   *
   * With several keys in one text a signature by any of them counts, so that a key can be replaced by the next one. A private
   * key is refused.
   */
  readonly publicKey: string;
}

/**
 * Choices for signatures made with Cosign, checked by a key in KMS.
 */
export interface CosignKmsVerificationOptions extends VerificationOptions {
  /**
   * The key that has to have signed: an asymmetric one, for signing and verifying.
   *
   * Only its public half is read (`kms:GetPublicKey`). A key of another account has to allow that in its own policy. With an
   * alias in its place, whoever can move the alias decides whose signature counts.
   */
  readonly key: kms.IKey;
}

/**
 * Choices for several signers.
 */
export interface SeveralSignersOptions extends VerificationOptions {
  /**
   * The signers: 1 to 10, each made by one of the other factories.
   *
   * What becomes of an image that is not signed as asked is decided for all of them together, so none of them takes
   * `failOnUnsigned: false`.
   */
  readonly signers: SignatureVerification[];
}

/**
 * Whose signature an image has to carry.
 *
 * The signature has to be one of exactly the image that is deployed, and is looked for beside it, in its repository.
 */
export abstract class SignatureVerification {
  /**
   * One made with Notation, by a signing profile of AWS Signer.
   */
  public static notation(options: NotationVerificationOptions): SignatureVerification {
    const { trustedIdentities, trustedRoots } = options;
    checkIdentities(trustedIdentities);
    if (trustedRoots?.length === 0) {
      throw new Error('trustedRoots must contain at least one root certificate: with an empty list no signature would count. Leave it out for the root of AWS Signer.');
    }
    trustedRoots?.forEach((pem, n) => checkRoots(`trustedRoots[${n}]`, pem));
    return new OneSigner({ ...common('NOTATION', options), trustedIdentities, trustedRoots });
  }

  /**
   * One made with Cosign, that this public key confirms.
   */
  public static cosignPublicKey(options: CosignPublicKeyVerificationOptions): SignatureVerification {
    checkPublicKeys('publicKey', options.publicKey);
    return new OneSigner({ ...common('COSIGN', options), publicKey: options.publicKey });
  }

  /**
   * One made with Cosign, that this key in KMS confirms.
   */
  public static cosignKms(options: CosignKmsVerificationOptions): SignatureVerification {
    checkKey(options.key);
    return new OneSigner({ ...common('COSIGN', options), kmsKeyArn: options.key.keyArn }, options.key);
  }

  /**
   * One of each of these signers: the image is refused if a single one is missing.
   */
  public static allOf(options: SeveralSignersOptions): SignatureVerification {
    return new SeveralSigners('ALL_OF', options);
  }

  /**
   * One of any of these signers: a single one is enough.
   */
  public static anyOf(options: SeveralSignersOptions): SignatureVerification {
    return new SeveralSigners('ANY_OF', options);
  }

  /**
   * Says whose signatures count; called once, by the verifier.
   *
   * Signatures are checked by the pipeline's functions, whose roles a gate cannot extend: what is granted to the grantee here
   * comes to nothing, and raises a warning.
   */
  public abstract bind(grantee: iam.IGrantable): SignatureVerificationBindOutput;

  /**
   * What has to be there before the gate can ask.
   *
   * @internal
   */
  public _needs(): Needs {
    return {};
  }

  /**
   * The names of those keys that are named by an alias, by what `bind` says of them.
   *
   * @internal
   */
  public _aliases(): Map<string, string> {
    return new Map();
  }
}

function common(type: string, options: VerificationOptions): SignatureVerificationBindOutput {
  return { type, failOnUnsigned: options.failOnUnsigned ?? true };
}

class OneSigner extends SignatureVerification {
  constructor(private readonly output: SignatureVerificationBindOutput, private readonly key?: kms.IKey) {
    super();
  }

  public override bind(_grantee: iam.IGrantable): SignatureVerificationBindOutput {
    return this.output;
  }

  /** @internal */
  public override _needs(): Needs {
    return this.key ? { 'key of signatureVerification': this.key } : {};
  }

  /** @internal */
  public override _aliases(): Map<string, string> {
    const alias = this.key && aliasOf(this.key);
    return new Map(alias === undefined ? [] : [[this.output.kmsKeyArn!, alias]]);
  }
}

class SeveralSigners extends SignatureVerification {
  constructor(private readonly type: string, private readonly options: SeveralSignersOptions) {
    super();
    checkCount(options.signers);
  }

  public override bind(grantee: iam.IGrantable): SignatureVerificationBindOutput {
    const signers = this.options.signers.map((signer) => signer.bind(grantee));
    checkTogether(this.type, signers);
    return { ...common(this.type, this.options), signers };
  }

  /** @internal */
  public override _needs(): Needs {
    const named = this.options.signers.map((signer, n) => Object.entries(signer._needs()).map(([what, need]) => [`${what} (signers[${n}])`, need]));
    return Object.fromEntries(named.flat());
  }

  /** @internal */
  public override _aliases(): Map<string, string> {
    return new Map(this.options.signers.flatMap((signer) => [...signer._aliases()]));
  }
}
