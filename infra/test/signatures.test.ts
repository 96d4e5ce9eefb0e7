import * as assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KeyObject, generateKeyPairSync } from 'crypto';
import { CfnParameter, Duration, Fn, Stack } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as sns from 'aws-cdk-lib/aws-sns';
import { Construct } from 'constructs';
import {
  EcrScanPipeline,
  EcrScanVerifier,
  EcrScanVerifierProps,
  OnUnscanned,
  SbomOutput,
  ScanConfig,
  ScanLogsOutput,
  Severity,
  SignatureVerification,
  SignatureVerificationBindOutput,
} from '../src';
import { ISSUED, PROFILE, PUBLIC_KEY, ROOT, signingKey } from './signers';
import { ACCOUNT, REGION, Resource, find, findAll, gateProps, newApp, newStack, permissions, repositoryNamed, resources, warnings } from './support';

/** One gate that asks a shared pipeline, so that its stack holds nothing else. */
function gate(signatureVerification: SignatureVerification, own: Partial<EcrScanVerifierProps> = {}, stack = newStack()): Resource {
  verifier(stack, { signatureVerification, ...own });
  return find(resources(stack), 'Custom::EcrScanVerifier');
}

function verifier(stack: Stack, own: Partial<EcrScanVerifierProps>, id = 'Verifier'): EcrScanVerifier {
  const shared = stack.node.tryFindChild('Shared') ?? EcrScanPipeline.fromName(stack, 'Shared', 'demo');
  return new EcrScanVerifier(stack, id, { pipeline: shared as never, ...gateProps(stack, own) });
}

const byKey = (own: { failOnUnsigned?: boolean } = {}): SignatureVerification => SignatureVerification.cosignPublicKey({ publicKey: PUBLIC_KEY, ...own });
const byProfile = (...trustedIdentities: string[]): SignatureVerification => SignatureVerification.notation({ trustedIdentities });

describe('what the gate hears', () => {
  for (const [what, make, expected] of [
    ['a signing profile', () => byProfile(PROFILE), { type: 'NOTATION', trustedIdentities: [PROFILE] }],
    ['one version of a profile', () => byProfile(`${PROFILE}/Ab12Cd34Ef`), { type: 'NOTATION', trustedIdentities: [`${PROFILE}/Ab12Cd34Ef`] }],
    [
      'a root of its own',
      () => SignatureVerification.notation({ trustedIdentities: [PROFILE], trustedRoots: [ROOT] }),
      { type: 'NOTATION', trustedIdentities: [PROFILE], trustedRoots: [ROOT] },
    ],
    ['a public key, as it is written', () => byKey(), { type: 'COSIGN', publicKey: PUBLIC_KEY }],
    ['a key in KMS', (stack: Stack) => SignatureVerification.cosignKms({ key: signingKey(stack) }), { type: 'COSIGN', kmsKeyArn: '{Signing.Arn}' }],
    [
      'a key in KMS by its alias',
      (stack: Stack) => SignatureVerification.cosignKms({ key: kms.Alias.fromAliasName(stack, 'Alias', 'alias/release') }),
      { type: 'COSIGN', kmsKeyArn: `arn:aws:kms:${REGION}:${ACCOUNT}:alias/release` },
    ],
    [
      'all of several signers',
      (stack: Stack) => SignatureVerification.allOf({ signers: [byProfile(PROFILE), SignatureVerification.cosignKms({ key: signingKey(stack) })] }),
      { type: 'ALL_OF', signers: [{ type: 'NOTATION', trustedIdentities: [PROFILE] }, { type: 'COSIGN', kmsKeyArn: '{Signing.Arn}' }] },
    ],
    [
      'any of several signers',
      () => SignatureVerification.anyOf({ signers: [byKey(), byProfile(PROFILE)] }),
      { type: 'ANY_OF', signers: [{ type: 'COSIGN', publicKey: PUBLIC_KEY }, { type: 'NOTATION', trustedIdentities: [PROFILE] }] },
    ],
  ] as [string, (stack: Stack) => SignatureVerification, object][]) {
    test(`of ${what}`, () => {
      const stack = newStack();
      assert.deepEqual(gate(make(stack), {}, stack).Properties.signatureVerification, { ...expected, failOnUnsigned: 'true' });
      assert.deepEqual(warnings(stack), []);
      assert.deepEqual(findAll(resources(stack), 'AWS::IAM::Role'), [], 'the functions of the pipeline read keys, no role of the gate');
    });
  }

  test('of what is unsigned, when it may pass: once, for all signers together', () => {
    for (const verification of [
      SignatureVerification.notation({ trustedIdentities: [PROFILE], failOnUnsigned: false }),
      byKey({ failOnUnsigned: false }),
      SignatureVerification.cosignKms({ key: signingKey(newStack()), failOnUnsigned: false }),
      SignatureVerification.allOf({ signers: [byKey()], failOnUnsigned: false }),
      SignatureVerification.anyOf({ signers: [byKey()], failOnUnsigned: false }),
    ]) {
      assert.equal(verification.bind(new iam.AnyPrincipal()).failOnUnsigned, false);
    }
    assert.equal(gate(byKey({ failOnUnsigned: false })).Properties.signatureVerification.failOnUnsigned, 'false');
    assert.deepEqual(gate(SignatureVerification.anyOf({ signers: [byKey()], failOnUnsigned: false })).Properties.signatureVerification, {
      type: 'ANY_OF',
      signers: [{ type: 'COSIGN', publicKey: PUBLIC_KEY }],
      failOnUnsigned: 'false',
    });
  });

  test('of nothing, when nothing is asked for', () => {
    const stack = newStack();
    verifier(stack, {});
    assert.ok(!('signatureVerification' in find(resources(stack), 'Custom::EcrScanVerifier').Properties));
  });

  test('of a class of somebody else too; what that grants reaches nobody, and a warning says so', () => {
    class Own extends SignatureVerification {
      public override bind(grantee: iam.IGrantable): SignatureVerificationBindOutput {
        iam.Grant.addToPrincipal({ grantee, actions: ['kms:Verify'], resourceArns: ['*'] });
        return { type: 'OWN', failOnUnsigned: true };
      }
    }
    const stack = newStack();
    assert.deepEqual(gate(new Own(), {}, stack).Properties.signatureVerification, { type: 'OWN', failOnUnsigned: 'true' });
    assert.match(warnings(stack).join(), /kms:Verify/);
  });
});

describe('signing profiles', () => {
  test('of none at all are refused', () => {
    assert.throws(() => byProfile(), { message: 'trustedIdentities must contain at least one signing profile ARN.' });
  });

  for (const good of [
    PROFILE,
    `${PROFILE}/0123456789`,
    `arn:aws:signer:us-east-1:999999999999:/signing-profiles/a_1`,
    `arn:aws-us-gov:signer:us-gov-west-1:${ACCOUNT}:/signing-profiles/release`,
  ]) {
    test(`'${good}' names some`, () => assert.doesNotThrow(() => byProfile(good)));
  }

  for (const odd of [
    'release',
    `arn:aws:signer:${REGION}:${ACCOUNT}:signing-profiles/release`,
    `arn:aws:signer:${REGION}:${ACCOUNT}:/signing-jobs/1a2b`,
    `arn:aws:signer:${REGION}:${ACCOUNT}:/signing-profiles/*`,
    `arn:aws:signer:${REGION}:${ACCOUNT}:/signing-profiles/a`,
    `${PROFILE}/`,
    `${PROFILE}/Ab12Cd34E`,
    `${PROFILE}/Ab12Cd34Efg`,
    `arn:aws:signer:${REGION}::/signing-profiles/release`,
    `arn:aws:kms:${REGION}:${ACCOUNT}:key/1a2b`,
    '',
  ]) {
    test(`'${odd}' is refused, with the form that is wanted`, () => {
      assert.throws(() => byProfile(PROFILE, odd), {
        message: `trustedIdentities contains '${odd}', which is no ARN of a signing profile: write arn:aws:signer:<region>:<account>:/signing-profiles/<name>, and /<version> after it (10 letters and digits) to trust that version alone.`,
      });
    });
  }

  test('of everybody are refused', () => {
    assert.throws(() => byProfile('*'), /^Error: trustedIdentities contains '\*': it would trust everybody/);
  });

  test('that are only known at deployment are left alone', () => {
    const stack = newStack();
    const one = new CfnParameter(stack, 'Profile').valueAsString;
    assert.doesNotThrow(() => gate(SignatureVerification.anyOf({ signers: [byProfile(one), byProfile(...Fn.split(',', one))] }), {}, stack));
  });
});

describe('roots', () => {
  const withRoots = (...trustedRoots: string[]): SignatureVerification => SignatureVerification.notation({ trustedIdentities: [PROFILE], trustedRoots });

  for (const [what, roots] of [['one', [ROOT]], ['two texts', [ROOT, ROOT]], ['two in one text', [`The first\n${ROOT}and the second\n${ROOT}`]]] as [string, string[]][]) {
    test(`${what} can be given`, () => assert.doesNotThrow(() => withRoots(...roots)));
  }

  for (const [what, root, says] of [
    ['a path', './root.pem', /^Error: trustedRoots\[1\] is no certificate in PEM: give the text of the file/],
    ['a public key', PUBLIC_KEY, /^Error: trustedRoots\[1\] is a PUBLIC KEY, where only certificates/],
    ['what cannot be read', ROOT.replace(/MII/, 'XYZ'), /^Error: trustedRoots\[1\] cannot be read/],
    ['what another one has signed', ISSUED, /^Error: trustedRoots\[1\] is no root: it was signed by another certificate/],
    ['what another one has signed, beside a root', ROOT + ISSUED, /^Error: trustedRoots\[1\] \(block 2 of 2\) is no root/],
  ] as [string, string, RegExp][]) {
    test(`${what} is refused`, () => assert.throws(() => withRoots(ROOT, root), says));
  }

  test('of none at all are refused', () => {
    assert.throws(() => withRoots(), /^Error: trustedRoots must contain at least one root certificate/);
  });

  test('that are only known at deployment are left alone', () => {
    assert.doesNotThrow(() => withRoots(new CfnParameter(newStack(), 'Root').valueAsString));
  });

  // The functions know AWS Signer's for these two.
  for (const [region, partition] of [
    ['eu-west-1', 'aws'],
    ['us-gov-west-1', 'aws-us-gov'],
  ] as const) {
    test(`need not be given in partition ${partition}`, () => {
      const there = `arn:${partition}:signer:${region}:${ACCOUNT}:/signing-profiles/release`;
      assert.doesNotThrow(() => gate(byProfile(there), {}, newStack({ env: { account: ACCOUNT, region } })));
    });
  }

  for (const [region, partition] of [
    ['cn-north-1', 'aws-cn'],
    ['eusc-de-east-1', 'aws-eusc'],
    ['us-iso-east-1', 'aws-iso'],
    ['us-isob-east-1', 'aws-iso-b'],
    ['us-isof-south-1', 'aws-iso-f'],
    ['eu-isoe-west-1', 'aws-iso-e'],
  ] as const) {
    test(`have to be given in partition ${partition}, wherever that is known from`, () => {
      const refused = new RegExp(`^Error: trustedIdentities cannot be checked in partition ${partition}: the root certificate of AWS Signer is known for aws and aws-us-gov alone`);
      const byTheProfile = (): [Stack, string] => [newStack({}), `arn:${partition}:signer:${region}:${ACCOUNT}:/signing-profiles/release`];
      const byTheStack = (): [Stack, string] => {
        const stack = newStack({ env: { account: ACCOUNT, region } });
        return [stack, new CfnParameter(stack, 'Profile').valueAsString];
      };
      for (const known of [byTheProfile, byTheStack]) {
        const [alone, together, withRoot] = [known(), known(), known()];
        assert.throws(() => gate(byProfile(alone[1]), {}, alone[0]), refused);
        assert.throws(() => gate(SignatureVerification.allOf({ signers: [byKey(), byProfile(together[1])] }), {}, together[0]), refused);
        assert.doesNotThrow(() => gate(SignatureVerification.notation({ trustedIdentities: [withRoot[1]], trustedRoots: [ROOT] }), {}, withRoot[0]));
      }
    });
  }
});

describe('partitions', () => {
  const elsewhere = `arn:aws-us-gov:signer:us-gov-west-1:${ACCOUNT}:/signing-profiles/release`;

  test('a profile of another one is refused, also as one of several', () => {
    const refused = /^Error: trustedIdentities contains 'arn:aws-us-gov:signer:[^']*', of partition aws-us-gov, but stack 'payments' deploys to partition aws/;
    assert.throws(() => gate(byProfile(PROFILE, elsewhere)), refused);
    assert.throws(() => gate(SignatureVerification.anyOf({ signers: [byKey(), byProfile(elsewhere)] })), refused);
  });

  test('a key of another one is refused', () => {
    const stack = newStack();
    const key = kms.Key.fromKeyArn(stack, 'Key', `arn:aws-us-gov:kms:us-gov-west-1:${ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab`);
    assert.throws(() => gate(SignatureVerification.cosignKms({ key }), {}, stack), /^Error: key is 'arn:aws-us-gov:kms:[^']*', of partition aws-us-gov, but stack/);
  });

  test('another region or account of the same one is not', () => {
    const stack = newStack();
    const key = kms.Key.fromKeyArn(stack, 'Key', 'arn:aws:kms:us-east-1:999999999999:key/1234abcd-12ab-34cd-56ef-1234567890ab');
    const far = 'arn:aws:signer:us-east-1:999999999999:/signing-profiles/release';
    assert.doesNotThrow(() => gate(SignatureVerification.allOf({ signers: [SignatureVerification.cosignKms({ key }), byProfile(far)] }), {}, stack));
  });

  test('are left alone where the region of the stack is open', () => {
    assert.doesNotThrow(() => gate(byProfile(elsewhere), {}, newStack({})));
  });
});

describe('a public key', () => {
  const pem = (key: KeyObject, type: 'spki' | 'pkcs1' = 'spki'): string => key.export({ format: 'pem', type: type as 'spki' }).toString();
  const ec = (namedCurve: string): KeyObject => generateKeyPairSync('ec', { namedCurve }).publicKey;
  const rsa = (modulusLength: number): KeyObject => generateKeyPairSync('rsa', { modulusLength }).publicKey;

  for (const [what, publicKey] of [
    ['ECDSA on P-256', PUBLIC_KEY],
    ['ECDSA on P-384', pem(ec('P-384'))],
    ['ECDSA on P-521', pem(ec('P-521'))],
    ['RSA of 2048 bits', pem(rsa(2048))],
    ['RSA in PKCS#1', pem(rsa(2048), 'pkcs1')],
    ['Ed25519', pem(generateKeyPairSync('ed25519').publicKey)],
    ['with other line breaks', PUBLIC_KEY.replaceAll('\n', '\r\n')],
    ['with words around it', `# of the release team\n${PUBLIC_KEY}\n`],
    ['and the next one', PUBLIC_KEY + pem(ec('P-256'))],
  ] as [string, string][]) {
    test(`${what} can be given`, () => {
      assert.equal(gate(SignatureVerification.cosignPublicKey({ publicKey })).Properties.signatureVerification.publicKey, publicKey);
    });
  }

  for (const [what, publicKey, says] of [
    ['nothing', '', /^Error: publicKey is no public key in PEM: give the text of the file/],
    ['the name of a file', 'cosign.pub', /^Error: publicKey is no public key in PEM: [^]*not where it lies\.$/],
    ['half of a file', PUBLIC_KEY.slice(0, 100), /^Error: publicKey is no public key in PEM/],
    ['what cannot be read', PUBLIC_KEY.replace(/MF/, 'XX'), /^Error: publicKey cannot be read: it says that it is a PUBLIC KEY/],
    ['without its line breaks', PUBLIC_KEY.replaceAll('\n', '\\n'), /^Error: publicKey cannot be read: [^]*with its line breaks\.$/],
    ['a certificate', ROOT, /^Error: publicKey is a CERTIFICATE, where only public keys are expected/],
    ['a certificate beside a key', PUBLIC_KEY + ROOT, /^Error: publicKey \(block 2 of 2\) is a CERTIFICATE/],
    ['a curve that Cosign does not know', pem(ec('secp256k1')), /^Error: publicKey is a key of a kind that cannot be checked\. Use ECDSA/],
    ['a key that is too short', pem(rsa(1024)), /^Error: publicKey is a key of a kind that cannot be checked/],
    ['eleven keys', PUBLIC_KEY.repeat(11), /^Error: publicKey holds 11 keys, and 10 is the most\. Leave out/],
    ['a key that signs nothing', pem(generateKeyPairSync('x25519').publicKey), /^Error: publicKey is a key of a kind that cannot be checked/],
  ] as [string, string, RegExp][]) {
    test(`${what} is refused`, () => assert.throws(() => SignatureVerification.cosignPublicKey({ publicKey }), says));
  }

  test('that is only known at deployment is left alone', () => {
    const stack = newStack();
    const publicKey = new CfnParameter(stack, 'PublicKey').valueAsString;
    assert.equal(gate(SignatureVerification.cosignPublicKey({ publicKey }), {}, stack).Properties.signatureVerification.publicKey, '{PublicKey}');
  });

  describe('that is a private one', () => {
    const secret = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const pkcs8 = secret.export({ format: 'pem', type: 'pkcs8' }).toString();
    const relabelled = (label: string): string => pkcs8.replaceAll('PRIVATE KEY', label);
    const body = pkcs8.split('\n')[1]!;

    for (const [what, given] of [
      ['in PKCS#8', pkcs8],
      ['in SEC 1', secret.export({ format: 'pem', type: 'sec1' }).toString()],
      ['of Cosign', relabelled('ENCRYPTED SIGSTORE PRIVATE KEY')],
      ['of Cosign as it was called before', relabelled('ENCRYPTED COSIGN PRIVATE KEY')],
      ['of OpenSSH', relabelled('OPENSSH PRIVATE KEY')],
      ['beside its public one', PUBLIC_KEY + pkcs8],
      ['without its end', pkcs8.slice(0, 100)],
      ['beside what is only known at deployment', `${pkcs8}${new CfnParameter(newStack(), 'More').valueAsString}`],
    ] as [string, string][]) {
      test(`${what} is refused, and nothing of it is shown`, () => {
        const props = { publicKey: given, 'trustedRoots[0]': given };
        const refused = [
          () => SignatureVerification.cosignPublicKey({ publicKey: given }),
          () => SignatureVerification.notation({ trustedIdentities: [PROFILE], trustedRoots: [given] }),
        ];
        Object.keys(props).forEach((prop, n) => {
          assert.throws(refused[n]!, ({ message, stack }: Error) => {
            assert.ok(message.startsWith(`${prop} holds a private key (`), message);
            assert.match(message, /new pair\.$/);
            assert.ok(!`${message}${stack}`.includes(body.slice(0, 20)));
            return true;
          });
        });
      });
    }

    test('under a false name is refused without being shown, as is whatever cannot be read', () => {
      for (const given of [relabelled('PUBLIC KEY'), body]) {
        assert.throws(() => SignatureVerification.cosignPublicKey({ publicKey: given }), ({ message, stack }: Error) => {
          assert.ok(!`${message}${stack}`.includes(body.slice(0, 20)), message);
          return /^publicKey (cannot be read|is no public key)/.test(message);
        });
      }
    });
  });
});

describe('a key in KMS', () => {
  const byKms = (key: kms.IKey): SignatureVerification => SignatureVerification.cosignKms({ key });
  const SPECS = ['ECC_NIST_P256', 'ECC_NIST_P384', 'ECC_NIST_P521', 'RSA_2048', 'RSA_3072', 'RSA_4096'] as const;

  for (const spec of SPECS) {
    test(`of spec ${spec} can be given`, () => assert.doesNotThrow(() => byKms(signingKey(newStack(), 'Key', { keySpec: kms.KeySpec[spec] }))));
  }

  test('for encryption is refused, by its alias too', () => {
    const stack = newStack();
    const key = new kms.Key(stack, 'Key');
    for (const given of [key, new kms.Alias(stack, 'Alias', { aliasName: 'alias/release', targetKey: key })]) {
      assert.throws(() => byKms(given), /^Error: key 'payments\/Key' is a key for ENCRYPT_DECRYPT: nobody can sign with it\. Make it with keySpec: [^]* kms\.KeyUsage\.SIGN_VERIFY\.$/);
    }
    const rsa = new kms.Key(stack, 'Rsa', { keySpec: kms.KeySpec.RSA_2048, keyUsage: kms.KeyUsage.ENCRYPT_DECRYPT });
    assert.throws(() => byKms(rsa), /is a key for ENCRYPT_DECRYPT/);
    const mac = new kms.Key(stack, 'Mac', { keySpec: kms.KeySpec.HMAC_256, keyUsage: kms.KeyUsage.GENERATE_VERIFY_MAC });
    assert.throws(() => byKms(mac), /is a key for GENERATE_VERIFY_MAC/);
  });

  for (const spec of ['ECC_SECG_P256K1', 'SM2'] as const) {
    test(`of spec ${spec} is refused`, () => {
      const key = signingKey(newStack(), 'Key', { keySpec: kms.KeySpec[spec] });
      assert.throws(() => byKms(key), new RegExp(`^Error: key 'payments/Key' has the key spec ${spec}, by which Cosign does not sign: it takes ECC_NIST_P256`));
    });
  }

  for (const keyArn of [
    'arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab',
    'arn:aws:kms:eu-west-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab',
    'arn:aws-cn:kms:cn-north-1:123456789012:alias/team/release_1',
  ]) {
    test(`'${keyArn}' is the ARN of one`, () => assert.doesNotThrow(() => byKms(named(keyArn))));
  }

  for (const keyArn of [
    '1234abcd-12ab-34cd-56ef-1234567890ab',
    'alias/release',
    'awskms:///arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab',
    'arn:aws:kms:eu-west-1:123456789012:key/*',
    'arn:aws:kms:eu-west-1:123456789012:alias/',
    'arn:aws:kms::123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab',
    'arn:aws:s3:::key',
  ]) {
    test(`'${keyArn}' is not`, () => assert.throws(() => byKms(named(keyArn)), new RegExp(`^Error: key has the ARN '${keyArn.replace(/\*/, '\\*')}', which is that of no KMS key: write arn:aws:kms:`)));
  }

  test('that AWS manages is refused', () => {
    assert.throws(() => byKms(kms.Alias.fromAliasName(newStack(), 'Alias', 'alias/aws/s3')), /^Error: key is 'alias\/aws\/s3', a key that AWS manages/);
  });

  test('that is only known at deployment is left alone', () => {
    const arn = new CfnParameter(newStack(), 'KeyArn').valueAsString;
    assert.doesNotThrow(() => byKms(named(arn)));
    const open = signingKey(newStack(), 'Key');
    const resource = open.node.defaultChild as kms.CfnKey;
    resource.keyUsage = resource.keySpec = new CfnParameter(open, 'Choice').valueAsString;
    assert.doesNotThrow(() => byKms(open));
  });

  /** The CDK's own imports refuse most of these themselves. */
  function named(keyArn: string): kms.IKey {
    return Object.assign(new Construct(newStack(), 'Named'), { keyArn }) as unknown as kms.IKey;
  }
});

test('a gate waits for the alias by which it names its key', () => {
  const stack = newStack();
  const { DependsOn } = gate(SignatureVerification.cosignKms({ key: signingKey(stack).addAlias('alias/release') }), {}, stack);
  assert.deepEqual(DependsOn, ['SigningAlias']);
});

describe('several signers', () => {
  for (const factory of ['allOf', 'anyOf'] as const) {
    const together = (...signers: SignatureVerification[]): SignatureVerification => SignatureVerification[factory]({ signers });

    test(`${factory}: 1 to 10 of them`, () => {
      const many = (count: number): SignatureVerification[] => Array.from({ length: count }, () => byKey());
      for (const count of [1, 10]) {
        assert.doesNotThrow(() => together(...many(count)));
      }
      for (const count of [0, 11]) {
        assert.throws(() => together(...many(count)), { message: `signers must contain 1 to 10 signers, got ${count}.` });
      }
    });

    test(`${factory}: none of which decides alone what becomes of an unsigned image`, () => {
      assert.throws(() => gate(together(byKey(), byKey({ failOnUnsigned: false }))), {
        message: `signers[1] of SignatureVerification.${factory}() has failOnUnsigned: false, which cannot hold for one of several signers alone. Give it to ${factory}({ signers, failOnUnsigned: false }), or leave it out.`,
      });
    });

    test(`${factory}: none of which is made of several itself`, () => {
      for (const inner of ['allOf', 'anyOf'] as const) {
        assert.throws(
          () => gate(together(byKey(), SignatureVerification[inner]({ signers: [byKey()] }))),
          new RegExp(`^Error: signers\\[1\\] of SignatureVerification\\.${factory}\\(\\) is made of several signers itself\\. They do not nest`),
        );
      }
    });
  }

  test('whose keys may not be what the gate holds back', () => {
    const stack = newStack();
    const service = new Construct(stack, 'Service');
    const signatureVerification = SignatureVerification.allOf({ signers: [byKey(), SignatureVerification.cosignKms({ key: signingKey(service, 'Needed') })] });
    assert.throws(
      () => verifier(stack, { signatureVerification, blockConstructs: [service] }),
      /^Error: blockConstructs contains 'payments\/Service', which contains the key of signatureVerification \(signers\[1\]\) \('payments\/Service\/Needed'\)/,
    );
  });
});

describe('signatures alone', () => {
  const scanConfig = ScanConfig.signatureOnly();

  test('have to be asked for', () => {
    const stack = newStack();
    assert.throws(() => verifier(stack, { scanConfig }), { message: 'ScanConfig.signatureOnly() requires signatureVerification to be specified.' });
    const { Properties } = gate(byKey(), { scanConfig });
    assert.deepEqual([Properties.scanType, Properties.startScan], ['SIGNATURE_ONLY', 'false']);
  });

  test('say the rest as the original did', () => {
    const { severity, ignoreFindings, failOnVulnerability, platforms } = gate(byKey(), { scanConfig, platforms: ['linux/arm64'] }).Properties;
    assert.deepEqual([severity, ignoreFindings, failOnVulnerability, platforms], [['CRITICAL'], [], 'true', ['linux/arm64']]);
  });

  test('can be written to scan logs, told to a topic, waited for and held back for', () => {
    const stack = newStack();
    const { Properties } = gate(byKey(), {
      scanConfig,
      scanLogsOutput: ScanLogsOutput.cloudWatchLogs({ logGroup: new logs.LogGroup(stack, 'Logs') }),
      vulnsNotificationTopic: new sns.Topic(stack, 'Topic'),
      strictOutputs: true,
      pollingTimeout: Duration.minutes(2),
      blockConstructs: [new sns.Topic(stack, 'Service')],
    }, stack);
    assert.deepEqual([Properties.output.type, Properties.vulnsTopicArn, Properties.strictOutputs], ['cloudWatchLogs', '{Topic}', 'true']);
    assert.deepEqual(warnings(stack), []);
  });

  for (const about of [
    { severityThreshold: Severity.HIGH },
    { exemptions: [{ id: 'CVE-2024-3094', reason: 'not reachable', until: '2027-01-31' }] },
    { ignoreUnfixed: true },
    { maxFindings: { critical: 0 } },
    { blockAlways: ['CVE-2024-3094'] },
    { graceDays: 7 },
    { exploit: { exploitAvailable: true } },
    { onUnscanned: OnUnscanned.ALLOW },
    { maxScanAge: Duration.days(1) },
  ] as Partial<EcrScanVerifierProps>[]) {
    const [prop] = Object.keys(about);
    test(`${prop} is refused beside them, not beside a scan`, () => {
      assert.throws(() => gate(byKey(), { scanConfig, ...about }), {
        message: `${prop} cannot work with ScanConfig.signatureOnly(): no scan is looked at, so no finding would ever block. Use ScanConfig.basic() or ScanConfig.enhanced() together with signatureVerification, or leave it out.`,
      });
      assert.doesNotThrow(() => gate(byKey(), { scanConfig: ScanConfig.enhanced(), ...about }));
    });
  }

  test('what says nothing is not refused', () => {
    assert.doesNotThrow(() => gate(byKey(), { scanConfig, exemptions: [], ignoreUnfixed: false }));
  });

  test('a bill of materials is refused beside them, whoever writes the configuration', () => {
    const stack = newStack();
    const encryptionKey = kms.Key.fromKeyArn(stack, 'Key', `arn:aws:kms:${REGION}:${ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab`);
    class Own extends ScanConfig {
      public override bind() {
        return { scanType: 'SIGNATURE_ONLY', startScan: false, sbomOutput: SbomOutput.spdx23({ bucket: {} as never, encryptionKey }) };
      }
    }
    assert.throws(() => gate(byKey(), { scanConfig: new Own() }, stack), /^Error: sbomOutput cannot work with scan type SIGNATURE_ONLY/);
  });

  for (const [props, says] of [
    [{ severity: [Severity.HIGH] }, /severity decides about findings, and with ScanConfig\.signatureOnly\(\) none are looked at/],
    [{ ignoreFindings: ['CVE-2024-3094'], failOnVulnerability: false }, /ignoreFindings, failOnVulnerability decide about findings/],
  ] as [Partial<EcrScanVerifierProps>, RegExp][]) {
    test(`${Object.keys(props).join(', ')}: taken as the original did, with a warning`, () => {
      const stack = newStack();
      gate(byKey(), { scanConfig, ...props }, stack);
      assert.equal(warnings(stack).length, 1);
      assert.match(warnings(stack)[0]!, says);
      const beside = newStack();
      gate(byKey(), { ignoreFindings: ['CVE-2024-3094'], failOnVulnerability: false }, beside);
      assert.deepEqual(warnings(beside), []);
    });
  }

  test('that may be missing keep nothing back, which a warning says', () => {
    for (const [failOnUnsigned, expected] of [[false, 1], [true, 0]] as const) {
      const stack = newStack();
      gate(byKey({ failOnUnsigned }), { scanConfig, blockConstructs: [new sns.Topic(stack, 'Service')] }, stack);
      assert.equal(warnings(stack).filter((text) => /neither findings nor a missing signature keep it back/.test(text)).length, expected);
    }
  });
});

test('with failOnVulnerability: false blocked constructs still wait for a signature, which the warning says', () => {
  for (const [failOnUnsigned, says] of [[true, /whose scan is complete and that is signed\./], [false, /whose scan is complete\./]] as const) {
    const stack = newStack();
    gate(byKey({ failOnUnsigned }), { failOnVulnerability: false, blockConstructs: [new sns.Topic(stack, 'Service')] }, stack);
    assert.match(warnings(stack).join(), says);
  }
});

describe('the functions of a stack\'s own pipeline', () => {
  const CALLS = /kms:GetPublicKey|signer:|ecr:GetDownloadUrlForLayer/;

  function granted(id: string, ...gates: ((stack: Stack) => Partial<EcrScanVerifierProps>)[]): string[] {
    const stack = newStack();
    gates.forEach((own, n) => new EcrScanVerifier(stack, `Verifier${n}`, gateProps(stack, own(stack))));
    return permissions(resources(stack), id).filter((line) => CALLS.test(line));
  }
  const repository = (name: string): string => `arn:aws:ecr:${REGION}:${ACCOUNT}:repository/${name}`;
  const readsLayers = `Allow ecr:GetDownloadUrlForLayer on ${repository('payments-api')}`;
  const asksSigner = 'Allow signer:GetRevocationStatus on *';
  const inKms = (stack: Stack): SignatureVerification => SignatureVerification.cosignKms({ key: (stack.node.tryFindChild('Signing') as kms.Key | undefined) ?? signingKey(stack) });

  for (const [what, make, lines] of [
    ['no signature', () => ({}), []],
    ['a public key', () => ({ signatureVerification: byKey() }), [readsLayers]],
    ['a profile', () => ({ signatureVerification: byProfile(PROFILE) }), [readsLayers, asksSigner]],
    ['a key in KMS', (stack: Stack) => ({ signatureVerification: inKms(stack) }), [readsLayers, 'Allow kms:GetPublicKey on {Signing.Arn}']],
    [
      'an alias',
      (stack: Stack) => ({ signatureVerification: SignatureVerification.cosignKms({ key: kms.Alias.fromAliasName(stack, 'Alias', 'alias/release') }) }),
      [readsLayers, 'Allow kms:GetPublicKey on arn:aws:kms:*:*:key/* when {"StringEquals":{"kms:RequestAlias":"alias/release"}}'],
    ],
    [
      'an alias of this app, as one of several signers',
      (stack: Stack) => ({
        signatureVerification: SignatureVerification.anyOf({
          signers: [byProfile(PROFILE), SignatureVerification.cosignKms({ key: signingKey(stack).addAlias('alias/release') })],
        }),
      }),
      [readsLayers, 'Allow kms:GetPublicKey on arn:aws:kms:*:*:key/* when {"StringEquals":{"kms:RequestAlias":"alias/release"}}', asksSigner],
    ],
    [
      'somebody else\'s class that names a key',
      () => ({ signatureVerification: new Foreign() }),
      [readsLayers, 'Allow kms:GetPublicKey on arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab'],
    ],
  ] as [string, (stack: Stack) => Partial<EcrScanVerifierProps>, string[]][]) {
    test(`may do for ${what} exactly this`, () => {
      for (const id of ['OnDeploy', 'OnScan']) {
        assert.deepEqual(granted(id, make), [...lines].sort(), id);
      }
      for (const id of ['OnPush', 'OnSweep']) {
        assert.deepEqual(granted(id, make), [], id);
      }
    });
  }

  test('may do what each gate needs, once, and read layers of those repositories alone whose images are signed', () => {
    const unsigned = (stack: Stack): Partial<EcrScanVerifierProps> => ({ repository: repositoryNamed(stack, 'payments-worker') });
    const signed = (stack: Stack): Partial<EcrScanVerifierProps> => ({ signatureVerification: inKms(stack) });
    assert.deepEqual(granted('OnDeploy', signed, unsigned, signed), [readsLayers, 'Allow kms:GetPublicKey on {Signing.Arn}'].sort());
  });

  test('wait for the keys of all gates, so no gate may hold one of them back', () => {
    for (const blockerFirst of [true, false]) {
      const stack = newStack();
      const service = new Construct(stack, 'Service');
      const blocker = { blockConstructs: [service] };
      const signed = { signatureVerification: SignatureVerification.cosignKms({ key: signingKey(service, 'Needed') }) };
      const [one, two] = blockerFirst ? [blocker, signed] : [signed, blocker];
      new EcrScanVerifier(stack, 'One', gateProps(stack, one));
      assert.throws(
        () => new EcrScanVerifier(stack, 'Two', gateProps(stack, two)),
        /^Error: blockConstructs of 'payments\/(One|Two)' contains 'payments\/Service', which contains the key of signatureVerification \('payments\/Service\/Needed'\) of 'payments\/(One|Two)', with which it shares its pipeline/,
      );
    }
  });

  class Foreign extends SignatureVerification {
    public override bind(): SignatureVerificationBindOutput {
      return { type: 'COSIGN', kmsKeyArn: `arn:aws:kms:${REGION}:${ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab`, failOnUnsigned: true };
    }
  }
});

test('a gate that is refused for its signatures leaves nothing behind', () => {
  const stack = newStack();
  const elsewhere = `arn:aws-cn:signer:cn-north-1:${ACCOUNT}:/signing-profiles/release`;
  for (const [n, signatureVerification] of [byProfile(elsewhere), SignatureVerification.anyOf({ signers: [byKey({ failOnUnsigned: false })] })].entries()) {
    assert.throws(() => new EcrScanVerifier(stack, `Verifier${n}`, gateProps(stack, { signatureVerification })));
  }
  assert.deepEqual(resources(stack), []);
});

test('a gate with signatures needs no account and no region', () => {
  const stack = new Stack(newApp(), 'payments');
  new EcrScanVerifier(stack, 'Verifier', {
    repository: ecr.Repository.fromRepositoryName(stack, 'Repository', 'payments-api'),
    imageTag: '1.4.2',
    scanConfig: ScanConfig.signatureOnly(),
    signatureVerification: SignatureVerification.anyOf({ signers: [byProfile(PROFILE), SignatureVerification.cosignKms({ key: signingKey(stack) })] }),
  });
  assert.doesNotThrow(() => resources(stack));
});
