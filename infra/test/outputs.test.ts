import * as assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CfnParameter, Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as sns from 'aws-cdk-lib/aws-sns';
import {
  EcrScanPipeline,
  EcrScanVerifier,
  EcrScanVerifierProps,
  SbomOutput,
  SbomOutputConfig,
  ScanConfig,
  ScanLogsLayout,
  ScanLogsOutput,
  ScanLogsOutputOptions,
  ScanLogsOutputType,
} from '../src';
import { ACCOUNT, HOME, REGION, Resource, find, findAll, gateProps, newApp, newStack, resources, warnings } from './support';

type Json = any;

function gate(stack: Stack, own: Partial<EcrScanVerifierProps>, id = 'Verifier', pipelineName = 'demo'): EcrScanVerifier {
  const shared = stack.node.tryFindChild(pipelineName) ?? EcrScanPipeline.fromName(stack, pipelineName, pipelineName);
  return new EcrScanVerifier(stack, id, { pipeline: shared as never, ...gateProps(stack, own) });
}

/** What the gate sends, and what its role may do, for the outputs that are made in its stack. */
function made(outputs: (stack: Stack) => Partial<EcrScanVerifierProps>): { stack: Stack; all: Resource[]; sent: Json; may: string[] } {
  const stack = newStack();
  gate(stack, outputs(stack));
  const all = resources(stack);
  return { stack, all, sent: find(all, 'Custom::EcrScanVerifier').Properties, may: outputsMay(all) };
}

function outputsMay(all: Resource[]): string[] {
  const { Properties } = find(all, 'AWS::IAM::Policy', 'OutputsdemoDefaultPolicy');
  return Properties.PolicyDocument.Statement.flatMap((statement: Json) =>
    [statement.Action].flat().map((action) => {
      const condition = statement.Condition ? ` when ${JSON.stringify(statement.Condition)}` : '';
      return `${statement.Effect} ${action} on ${[statement.Resource].flat().join(' and ')}${condition}`;
    }),
  ).sort();
}

const via = (service: string): string => ` when {"StringEquals":{"kms:ViaService":"${service}.${REGION}.amazonaws.com"}}`;
const bucketIn = (stack: Stack, props?: s3.BucketProps): s3.Bucket => new s3.Bucket(stack, 'Bucket', props);
const keyIn = (stack: Stack): kms.Key => new kms.Key(stack, 'Key');
const sbomProps = (stack: Stack, prefix?: string) => ({ bucket: bucketIn(stack), encryptionKey: keyIn(stack), prefix });
const enhanced = (sbomOutput: SbomOutput): Partial<EcrScanVerifierProps> => ({ scanConfig: ScanConfig.enhanced({ sbomOutput }) });

describe('without outputs', () => {
  test('nothing is said of them, and no role is made', () => {
    const stack = newStack();
    gate(stack, {});
    const all = resources(stack);
    for (const property of ['output', 'layout', 'sbom', 'vulnsTopicArn', 'outputsRoleArn', 'strictOutputs', 'signatureVerification']) {
      assert.ok(!(property in find(all, 'Custom::EcrScanVerifier').Properties), property);
    }
    assert.deepEqual(findAll(all, 'AWS::IAM::Role'), []);
  });
});

describe('scan logs in CloudWatch', () => {
  const group = (stack: Stack): logs.LogGroup => new logs.LogGroup(stack, 'Group');

  test('go to the group, and nothing but writing to it is granted', () => {
    const { sent, may } = made((stack) => ({ scanLogsOutput: ScanLogsOutput.cloudWatchLogs({ logGroup: group(stack) }) }));
    assert.deepEqual(sent.output, { type: 'cloudWatchLogs', logGroupName: '{Group}' });
    assert.ok(!('layout' in sent));
    assert.deepEqual(may, ['Allow logs:CreateLogStream on {Group.Arn}', 'Allow logs:PutLogEvents on {Group.Arn}']);
  });

  for (const [layout, form] of [[ScanLogsLayout.DIGEST, 'DIGEST'], [ScanLogsLayout.TAG, undefined], [undefined, undefined]] as const) {
    test(`with layout ${layout}: the gate hears ${form ?? 'nothing'}`, () => {
      const { sent } = made((stack) => ({ scanLogsOutput: ScanLogsOutput.cloudWatchLogs({ logGroup: group(stack), layout }) }));
      assert.equal(sent.layout, form);
      assert.deepEqual(Object.keys(sent.output), ['type', 'logGroupName']);
    });
  }
});

describe('scan logs in a bucket', () => {
  for (const [prefix, below] of [[undefined, '*'], ['', '*'], ['logs', 'logs/*'], ['logs/', 'logs/*'], ['a/b', 'a/b/*']] as const) {
    test(`with prefix ${JSON.stringify(prefix)} may be put to ${below}, and nothing else`, () => {
      const { sent, may } = made((stack) => ({ scanLogsOutput: ScanLogsOutput.s3({ bucket: bucketIn(stack), prefix }) }));
      assert.deepEqual(sent.output, { type: 's3', bucketName: '{Bucket}', ...(prefix && { prefix }) });
      assert.deepEqual(may, [`Allow s3:PutObject on {Bucket.Arn}/${below}`]);
    });
  }

  test('with a prefix that is only known at deployment may be put wherever it begins so', () => {
    const { sent, may } = made((stack) => ({
      scanLogsOutput: ScanLogsOutput.s3({ bucket: bucketIn(stack), prefix: new CfnParameter(stack, 'Prefix').valueAsString }),
    }));
    assert.equal(sent.output.prefix, '{Prefix}');
    assert.deepEqual(may, ['Allow s3:PutObject on {Bucket.Arn}/{Prefix}*']);
  });

  test('by digest', () => {
    const { sent } = made((stack) => ({ scanLogsOutput: ScanLogsOutput.s3({ bucket: bucketIn(stack), layout: ScanLogsLayout.DIGEST }) }));
    assert.equal(sent.layout, 'DIGEST');
    assert.deepEqual(sent.output, { type: 's3', bucketName: '{Bucket}' });
  });

  test("use the bucket's key through the bucket alone", () => {
    const { may } = made((stack) => ({ scanLogsOutput: ScanLogsOutput.s3({ bucket: bucketIn(stack, { encryptionKey: keyIn(stack) }) }) }));
    assert.deepEqual(may, [
      `Allow kms:Decrypt on {Key.Arn}${via('s3')}`,
      `Allow kms:GenerateDataKey on {Key.Arn}${via('s3')}`,
      'Allow s3:PutObject on {Bucket.Arn}/*',
    ]);
  });
});

describe('a bill of materials', () => {
  for (const [make, format] of [[SbomOutput.cycloneDx14, 'CYCLONEDX_1_4'], [SbomOutput.spdx23, 'SPDX_2_3']] as const) {
    test(`as ${format}`, () => {
      const { sent } = made((stack) => enhanced(make(sbomProps(stack, 'sboms'))));
      assert.deepEqual(sent.sbom, { format, bucketName: '{Bucket}', prefix: 'sboms', kmsKeyArn: '{Key.Arn}' });
      assert.deepEqual([sent.scanType, sent.startScan], ['ENHANCED', 'false']);
    });
  }

  test('without a prefix says none', () => {
    const { sent, may } = made((stack) => enhanced(SbomOutput.spdx23(sbomProps(stack))));
    assert.deepEqual(Object.keys(sent.sbom), ['format', 'bucketName', 'kmsKeyArn']);
    assert.ok(may.includes('Allow s3:ListBucket on {Bucket.Arn}'), may.join('\n'));
    assert.ok(may.includes('Allow s3:GetObject on {Bucket.Arn}/*'), may.join('\n'));
  });

  test('is asked for, fetched and copied below the prefix; nothing is deleted', () => {
    const { may } = made((stack) => enhanced(SbomOutput.spdx23(sbomProps(stack, 'sboms'))));
    assert.deepEqual(may, [
      'Allow inspector2:CreateSbomExport on *',
      'Allow inspector2:GetSbomExport on *',
      `Allow kms:Decrypt on {Key.Arn}${via('s3')}`,
      `Allow kms:GenerateDataKey on {Key.Arn}${via('s3')}`,
      'Allow s3:GetObject on {Bucket.Arn}/sboms/*',
      'Allow s3:ListBucket on {Bucket.Arn} when {"StringLike":{"s3:prefix":"sboms/*"}}',
      'Allow s3:PutObject on {Bucket.Arn}/sboms/*',
    ]);
  });

  test("of a bucket with a key of its own takes both keys, each once", () => {
    const keysOf = (may: string[]): string[] => may.filter((line) => line.includes('kms:Decrypt')).map((line) => line.split(' ')[3]!);
    const two = made((stack) => enhanced(SbomOutput.spdx23({ bucket: bucketIn(stack, { encryptionKey: new kms.Key(stack, 'Other') }), encryptionKey: keyIn(stack) })));
    assert.deepEqual(keysOf(two.may), ['{Key.Arn}', '{Other.Arn}']);
    const one = made((stack) => {
      const encryptionKey = keyIn(stack);
      return enhanced(SbomOutput.spdx23({ bucket: bucketIn(stack, { encryptionKey }), encryptionKey }));
    });
    assert.deepEqual(keysOf(one.may), ['{Key.Arn}']);
  });

  const own = {
    StringEquals: { 'aws:SourceAccount': ACCOUNT },
    ArnLike: { 'aws:SourceArn': `arn:aws:inspector2:${REGION}:${ACCOUNT}:report/*` },
  };

  test('Inspector may write into the bucket for reports of this account and region alone', () => {
    const { all } = made((stack) => enhanced(SbomOutput.spdx23(sbomProps(stack, 'sboms'))));
    assert.deepEqual(find(all, 'AWS::S3::BucketPolicy').Properties.PolicyDocument.Statement, [
      {
        Sid: 'InspectorWritesSboms',
        Effect: 'Allow',
        Principal: { Service: 'inspector2.amazonaws.com' },
        Action: ['s3:AbortMultipartUpload', 's3:PutObject'],
        Resource: '{Bucket.Arn}/*',
        Condition: own,
      },
    ]);
  });

  test('and encrypt with the key for these alone', () => {
    const { all } = made((stack) => enhanced(SbomOutput.spdx23(sbomProps(stack))));
    const ofInspector = find(all, 'AWS::KMS::Key').Properties.KeyPolicy.Statement.filter((s: Json) => s.Principal.Service);
    assert.deepEqual(ofInspector, [
      {
        Sid: 'InspectorEncryptsSboms',
        Effect: 'Allow',
        Principal: { Service: 'inspector2.amazonaws.com' },
        Action: ['kms:Decrypt', 'kms:GenerateDataKey*'],
        Resource: '*',
        Condition: own,
      },
    ]);
  });

  test('Inspector has a name of its own in a region that has to be opted into', () => {
    const stack = newStack({ env: { account: ACCOUNT, region: 'af-south-1' } });
    gate(stack, enhanced(SbomOutput.spdx23(sbomProps(stack))));
    const [{ Principal }] = find(resources(stack), 'AWS::S3::BucketPolicy').Properties.PolicyDocument.Statement;
    assert.deepEqual(Principal, { Service: 'inspector2.af-south-1.amazonaws.com' });
  });

  test('the role, and so the gate, waits until Inspector is let in', () => {
    const { all } = made((stack) => enhanced(SbomOutput.spdx23(sbomProps(stack))));
    assert.deepEqual(find(all, 'AWS::IAM::Role').DependsOn, ['BucketPolicy']);
  });

  test('asked for by two gates is let in once', () => {
    const stack = newStack();
    const props = sbomProps(stack);
    ['One', 'Two'].forEach((id) => gate(stack, enhanced(SbomOutput.spdx23(props)), id));
    const all = resources(stack);
    assert.equal(find(all, 'AWS::S3::BucketPolicy').Properties.PolicyDocument.Statement.length, 1);
    assert.equal(find(all, 'AWS::KMS::Key').Properties.KeyPolicy.Statement.filter((s: Json) => s.Principal.Service).length, 1);
  });

  test('whose bucket or key we cannot change raises a warning for each that says what it needs, our own does not', () => {
    const imported = newStack();
    const bucket = s3.Bucket.fromBucketName(imported, 'Bucket', 'theirs');
    const encryptionKey = kms.Key.fromKeyArn(imported, 'Key', `arn:aws:kms:${REGION}:${ACCOUNT}:key/1`);
    gate(imported, enhanced(SbomOutput.spdx23({ bucket, encryptionKey })));
    const [ofBucket, ofKey, ...others] = warnings(imported);
    assert.deepEqual(others, []);
    assert.match(ofBucket!, /bucket of sbomOutput \('payments\/Bucket'\).*let inspector2\.amazonaws\.com use s3:PutObject and s3:AbortMultipartUpload.*sbomBucketPolicyNotChanged/);
    assert.match(ofKey!, /encryptionKey of sbomOutput \('payments\/Key'\).*use kms:Decrypt and kms:GenerateDataKey\*.*sbomKeyPolicyNotChanged/);
    assert.deepEqual(warnings(made((stack) => enhanced(SbomOutput.spdx23(sbomProps(stack)))).stack), []);
  });

  test('cannot be asked of basic scanning, whoever writes the configuration', () => {
    class Own extends ScanConfig {
      constructor(private readonly sbomOutput: SbomOutput) {
        super();
      }
      public override bind() {
        return { scanType: 'BASIC', startScan: false, sbomOutput: this.sbomOutput };
      }
    }
    const stack = newStack();
    assert.throws(() => gate(stack, { scanConfig: new Own(SbomOutput.spdx23(sbomProps(stack))) }), /^Error: sbomOutput cannot work with scan type BASIC.*Use ScanConfig\.enhanced\(\{ sbomOutput \}\)/);
  });
});

describe('a topic', () => {
  test('is named, and may be published to', () => {
    const { sent, may } = made((stack) => ({ vulnsNotificationTopic: new sns.Topic(stack, 'Topic') }));
    assert.equal(sent.vulnsTopicArn, '{Topic}');
    assert.deepEqual(may, ['Allow sns:Publish on {Topic}']);
  });

  test("uses its key through the topic alone", () => {
    const { may } = made((stack) => ({ vulnsNotificationTopic: new sns.Topic(stack, 'Topic', { masterKey: keyIn(stack) }) }));
    assert.deepEqual(may, [
      `Allow kms:Decrypt on {Key.Arn}${via('sns')}`,
      `Allow kms:GenerateDataKey on {Key.Arn}${via('sns')}`,
      'Allow sns:Publish on {Topic}',
    ]);
  });

  test('of several gates is granted once, imported twice or not', () => {
    const stack = newStack();
    const arn = `arn:aws:sns:${REGION}:${ACCOUNT}:alerts`;
    ['One', 'Two'].forEach((id) => gate(stack, { vulnsNotificationTopic: sns.Topic.fromTopicArn(stack, `TopicOf${id}`, arn) }, id));
    assert.deepEqual(outputsMay(resources(stack)), [`Allow sns:Publish on ${arn}`]);
  });
});

describe('the role', () => {
  const topic = (stack: Stack, id = 'Topic'): Partial<EcrScanVerifierProps> => ({ vulnsNotificationTopic: new sns.Topic(stack, id) });

  test('is one for all gates of the stack, with the outputs of each', () => {
    const stack = newStack();
    gate(stack, topic(stack), 'One');
    gate(stack, { scanLogsOutput: ScanLogsOutput.s3({ bucket: bucketIn(stack) }) }, 'Two');
    gate(stack, {}, 'Without');
    const all = resources(stack);
    const role = find(all, 'AWS::IAM::Role');
    const arns = findAll(all, 'Custom::EcrScanVerifier').map((g) => g.Properties.outputsRoleArn);
    assert.deepEqual(arns, [`{${role.id}.Arn}`, `{${role.id}.Arn}`, undefined]);
    assert.deepEqual(outputsMay(all), ['Allow s3:PutObject on {Bucket.Arn}/*', 'Allow sns:Publish on {Topic}']);
  });

  test('lies where the pipeline may take it, and only on-scan of that pipeline may', () => {
    const { all } = made((stack) => topic(stack));
    const { Properties } = find(all, 'AWS::IAM::Role');
    assert.equal(Properties.Path, '/ecr-scan-verifier/');
    assert.equal(Properties.RoleName, undefined);
    assert.equal(Properties.ManagedPolicyArns, undefined);
    assert.deepEqual(Properties.AssumeRolePolicyDocument.Statement, [
      {
        Effect: 'Allow',
        Action: 'sts:AssumeRole',
        Principal: { AWS: `arn:aws:iam::${ACCOUNT}:root` },
        Condition: {
          ArnEquals: { 'aws:PrincipalArn': `arn:aws:iam::${ACCOUNT}:role/ecr-on-scan-demo-${REGION}` },
          StringEquals: { 'sts:ExternalId': '{AWS::StackId}' },
        },
      },
    ]);
  });

  for (const [what, pipelineIn] of [
    ['the same stack', (stack: Stack) => new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo' })],
    ['no name', () => undefined],
  ] as const) {
    test(`names the very role that the pipeline of ${what} gives on-scan`, () => {
      const stack = newStack();
      new EcrScanVerifier(stack, 'Verifier', gateProps(stack, { ...topic(stack), pipeline: pipelineIn(stack) }));
      const all = resources(stack);
      const { AssumeRolePolicyDocument } = find(all, 'AWS::IAM::Role', /Outputs/).Properties;
      const { RoleName } = find(all, 'AWS::IAM::Role', 'OnScanRole').Properties;
      assert.equal(AssumeRolePolicyDocument.Statement[0].Condition.ArnEquals['aws:PrincipalArn'], `arn:aws:iam::${ACCOUNT}:role/${RoleName}`);
    });
  }

  test('is another one for another pipeline', () => {
    const stack = newStack();
    const props = topic(stack);
    gate(stack, props, 'One', 'first');
    gate(stack, props, 'Two', 'second');
    const trusted = findAll(resources(stack), 'AWS::IAM::Role').map((r) => r.Properties.AssumeRolePolicyDocument.Statement[0].Condition.ArnEquals['aws:PrincipalArn']);
    assert.deepEqual(trusted, ['first', 'second'].map((name) => `arn:aws:iam::${ACCOUNT}:role/ecr-on-scan-${name}-${REGION}`));
  });

  test('can do what it was granted before the gate asks', () => {
    const { all } = made((stack) => topic(stack));
    assert.deepEqual(find(all, 'Custom::EcrScanVerifier').DependsOn, ['EcrScanVerifierOutputsdemo', 'EcrScanVerifierOutputsdemoDefaultPolicy']);
  });

  test('needs no account and no region', () => {
    const stack = new Stack(newApp(), 'anywhere');
    gate(stack, topic(stack));
    assert.equal(findAll(resources(stack), 'AWS::IAM::Role').length, 1);
  });

  test('is not made for a gate that is refused', () => {
    const stack = newStack();
    assert.throws(() => gate(stack, { vulnsNotificationTopic: sns.Topic.fromTopicArn(stack, 'T', `arn:aws:sns:${REGION}:${ACCOUNT}:alerts`), severity: [] }));
    assert.deepEqual(resources(stack), []);
  });

  test('is what an output of somebody else is bound to', () => {
    class OwnLogs extends ScanLogsOutput {
      public override bind(grantee: iam.IGrantable): ScanLogsOutputOptions {
        iam.Grant.addToPrincipal({ grantee, actions: ['s3:PutObject'], resourceArns: ['arn:aws:s3:::own/*'] });
        return { type: ScanLogsOutputType.S3, bucketName: 'own', layout: ScanLogsLayout.DIGEST } as ScanLogsOutputOptions;
      }
    }
    class OwnSbom extends SbomOutput {
      public override bind(): SbomOutputConfig {
        return { format: 'SPDX_2_3' as never, bucketName: 'own', kmsKeyArn: 'arn:key' };
      }
    }
    const { sent, may } = made(() => ({ scanLogsOutput: new OwnLogs(), ...enhanced(new OwnSbom()) }));
    assert.deepEqual(sent.output, { type: 's3', bucketName: 'own' });
    assert.equal(sent.layout, 'DIGEST');
    assert.deepEqual(sent.sbom, { format: 'SPDX_2_3', bucketName: 'own', kmsKeyArn: 'arn:key' });
    assert.deepEqual(may, ['Allow s3:PutObject on arn:aws:s3:::own/*']);
  });
});

describe('strictOutputs', () => {
  const withLogs = (stack: Stack): Partial<EcrScanVerifierProps> => ({ scanLogsOutput: ScanLogsOutput.s3({ bucket: bucketIn(stack) }) });

  for (const [strictOutputs, form] of [[true, 'true'], [false, undefined], [undefined, undefined]] as const) {
    test(`${strictOutputs}: the gate hears ${form ?? 'nothing'}`, () => {
      const { sent, stack } = made((inStack) => ({ ...withLogs(inStack), strictOutputs }));
      assert.equal(sent.strictOutputs, form);
      assert.equal('strictOutputs' in sent, form !== undefined);
      assert.deepEqual(warnings(stack), []);
    });
  }

  test('raises a warning where there is nothing to be strict about', () => {
    const warned = (own: Partial<EcrScanVerifierProps>): string => {
      const stack = newStack({ env: HOME });
      gate(stack, { ...own, vulnsNotificationTopic: new sns.Topic(stack, 'Topic') });
      return warnings(stack).join();
    };
    assert.match(warned({ strictOutputs: true }), /^strictOutputs has no effect.*\[ack: @ecr-scan-verifier:strictOutputsWithoutOutputs\]$/);
    assert.equal(warned({ strictOutputs: false }), '');
    assert.deepEqual(warnings(made((stack) => ({ ...enhanced(SbomOutput.spdx23(sbomProps(stack))), strictOutputs: true })).stack), []);
  });
});
