import * as assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createHash } from 'crypto';
import { CfnParameter, CfnResource, Duration, Fn, Lazy, NestedStack, Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as sns from 'aws-cdk-lib/aws-sns';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import { Construct } from 'constructs';
import {
  EcrScanPipeline,
  EcrScanVerifier,
  EcrScanVerifierProps,
  OnUnscanned,
  SbomFormat,
  SbomOutput,
  ScanConfig,
  ScanConfigBindOutput,
  ScanLogsOutput,
  ScanLogsOutputType,
  Severity,
  SignatureVerification,
} from '../src';
import { signingKey } from './signers';
import { ACCOUNT, DIGEST, HOME, REGION, Resource, find, findAll, gateProps, newApp, newStack, permissions, plain, repositoryNamed, resources, warnings } from './support';

/** One gate that asks a shared pipeline, so that its stack holds nothing else. */
function gate(own: Partial<EcrScanVerifierProps> = {}, stack = newStack()): Resource {
  verifier(stack, own);
  return find(resources(stack), 'Custom::EcrScanVerifier');
}

function verifier(stack: Stack, own: Partial<EcrScanVerifierProps> = {}, id = 'Verifier'): EcrScanVerifier {
  const shared = stack.node.tryFindChild('Shared') ?? EcrScanPipeline.fromName(stack, 'Shared', 'demo');
  return new EcrScanVerifier(stack, id, { pipeline: shared as never, ...gateProps(stack, own) });
}

function warningsOf(own: Partial<EcrScanVerifierProps>): string[] {
  const stack = newStack();
  verifier(stack, own);
  return warnings(stack);
}

describe('the custom resource', () => {
  test('says all that the gate needs, every scalar as text', () => {
    const { ServiceTimeout, ...properties } = gate({ imageTag: undefined }).Properties;
    assert.equal(Number(ServiceTimeout), 960);
    assert.match(properties.addr, /^c8[0-9a-f]{40}$/);
    assert.deepEqual(properties, {
      ServiceToken: `arn:aws:lambda:${REGION}:${ACCOUNT}:function:ecr-scan-verifier-demo-on-deploy`,
      addr: properties.addr,
      repositoryName: 'payments-api',
      repositoryArn: `arn:aws:ecr:${REGION}:${ACCOUNT}:repository/payments-api`,
      imageTag: 'latest',
      scanType: 'BASIC',
      startScan: 'true',
      severity: ['CRITICAL'],
      failOnVulnerability: 'true',
      ignoreFindings: [],
      suppressErrorOnRollback: 'true',
      defaultLogGroupName: '/aws/lambda/ecr-scan-verifier-demo-on-deploy',
      pollingTimeoutSeconds: '840',
    });
  });

  for (const [what, props, expected] of [
    ['a digest goes along as it is', { imageTag: DIGEST }, { imageTag: DIGEST }],
    ['an empty tag stays empty', { imageTag: '' }, { imageTag: '' }],
    ['basic scanning can be told not to ask for a scan', { scanConfig: ScanConfig.basic({ startScan: false }) }, { scanType: 'BASIC', startScan: 'false' }],
    ['nobody can ask Inspector for a scan', { scanConfig: ScanConfig.enhanced() }, { scanType: 'ENHANCED', startScan: 'false' }],
    ['severities keep their order', { severity: [Severity.HIGH, Severity.CRITICAL] }, { severity: ['HIGH', 'CRITICAL'] }],
    ['a threshold stands alone', { severityThreshold: Severity.HIGH }, { severity: undefined, severityThreshold: 'HIGH' }],
    ['unrated findings can block', { severity: [Severity.CRITICAL, Severity.UNTRIAGED] }, { severity: ['CRITICAL', 'UNTRIAGED'] }],
    ['findings are ignored as written', { ignoreFindings: ['b', 'A'] }, { ignoreFindings: ['b', 'A'] }],
    ['findings need not fail a deployment', { failOnVulnerability: false }, { failOnVulnerability: 'false' }],
    ['rollbacks can be judged', { suppressErrorOnRollback: false }, { suppressErrorOnRollback: 'false' }],
  ] as [string, Partial<EcrScanVerifierProps>, Record<string, unknown>][]) {
    test(what, () => {
      const { Properties } = gate(props);
      for (const [property, value] of Object.entries(expected)) {
        assert.deepEqual(Properties[property], value, property);
      }
    });
  }

  test('takes a scan configuration of somebody else', () => {
    class Own extends ScanConfig {
      public override bind(): ScanConfigBindOutput {
        return { scanType: 'ENHANCED', startScan: true };
      }
    }
    const { Properties } = gate({ scanConfig: new Own() });
    assert.deepEqual([Properties.scanType, Properties.startScan], ['ENHANCED', 'true']);
  });

  test('has the name of its pipeline in its id, so that another pipeline makes another gate', () => {
    const ids = ['demo', 'other'].map((name) => {
      const stack = newStack();
      const made = verifier(stack, { pipeline: EcrScanPipeline.fromName(stack, 'Pipeline', name) });
      assert.ok(made.node.tryFindChild(`Gate-${name}`));
      assert.equal(made.node.tryFindChild('Resource'), undefined, "the original's id: CloudFormation would refuse the new token");
      return Object.keys(Template.fromStack(stack).findResources('Custom::EcrScanVerifier'))[0];
    });
    assert.notEqual(ids[0], ids[1]);
  });

  test('is deleted with its stack', () => {
    assert.equal(gate().DeletionPolicy, 'Delete');
  });

  test('is all that a verifier with a pipeline makes', () => {
    const stack = newStack();
    verifier(stack);
    assert.deepEqual(resources(stack).map((r) => r.Type), ['Custom::EcrScanVerifier']);
  });
});

describe('pollingTimeout', () => {
  for (const [seconds, cloudFormationWaits] of [[1, 420], [300, 420], [301, 421], [840, 960], [3480, 3600]] as const) {
    test(`${seconds} s are accepted, and CloudFormation waits ${cloudFormationWaits} s`, () => {
      const { Properties } = gate({ pollingTimeout: Duration.seconds(seconds) });
      assert.equal(Properties.pollingTimeoutSeconds, String(seconds));
      assert.equal(Number(Properties.ServiceTimeout), cloudFormationWaits);
    });
  }

  for (const seconds of [0, 3481, 3600]) {
    test(`${seconds} s are refused`, () => {
      assert.throws(() => gate({ pollingTimeout: Duration.seconds(seconds) }), {
        message: `pollingTimeout must be between 1 and 3480 seconds, got ${seconds}.`,
      });
    });
  }

  test('less than a second is refused by the CDK itself', () => {
    assert.throws(() => gate({ pollingTimeout: Duration.millis(1500) }), /cannot be converted into a whole number of seconds/);
  });

  test('a time that is only known at deployment is refused', () => {
    const later = Duration.seconds(Lazy.number({ produce: () => 60 }));
    assert.throws(() => gate({ pollingTimeout: later }), /pollingTimeout must be known when the app is synthesized/);
  });
});

describe('severities', () => {
  test('both ways to say what blocks are refused together', () => {
    assert.throws(
      () => gate({ severity: [Severity.CRITICAL], severityThreshold: Severity.CRITICAL }),
      /Give either 'severity' or 'severityThreshold', not both/,
    );
  });

  test('an empty list is refused, with the way out', () => {
    assert.throws(() => gate({ severity: [] }), /with an empty list nothing would ever block\. Leave it out for \[CRITICAL\]/);
  });

  const { INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL, UNDEFINED, UNTRIAGED } = Severity;
  for (const rated of [INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL]) {
    test(`${rated} is a threshold`, () => assert.equal(gate({ severityThreshold: rated }).Properties.severityThreshold, rated));
  }
  for (const unrated of [UNDEFINED, UNTRIAGED]) {
    test(`${unrated} is no threshold`, () => {
      assert.throws(() => gate({ severityThreshold: unrated }), /severityThreshold must be one of INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL, got/);
    });
  }

  for (const [severity, passing] of [
    [[HIGH], 'CRITICAL'],
    [[MEDIUM, CRITICAL], 'HIGH'],
    [[LOW], 'MEDIUM or HIGH or CRITICAL'],
    [[HIGH, UNDEFINED], 'CRITICAL'],
    [[UNTRIAGED], 'CRITICAL'],
  ] as [Severity[], string][]) {
    test(`[${severity}] raises a warning: ${passing} passes`, () => {
      const [warning, ...others] = warningsOf({ severity });
      assert.deepEqual(others, []);
      assert.ok(warning?.includes(`a finding of severity ${passing} does not block`), warning);
      assert.match(warning!, /\[ack: @ecr-scan-verifier:severityNotUpwardClosed\]/);
    });
  }
  for (const severity of [[CRITICAL], [CRITICAL, HIGH], [HIGH, MEDIUM, CRITICAL], [CRITICAL, UNTRIAGED], Object.values(Severity)]) {
    test(`[${severity}] raises none`, () => assert.deepEqual(warningsOf({ severity }), []));
  }
  test('neither does a threshold', () => assert.deepEqual(warningsOf({ severityThreshold: LOW }), []));
});

describe('a tag that can move', () => {
  for (const imageTag of [undefined, 'latest']) {
    test(`'${imageTag ?? 'no tag'}' raises a warning that says what to do`, () => {
      const [warning, ...others] = warningsOf({ imageTag });
      assert.deepEqual(others, []);
      assert.ok(
        warning?.startsWith(
          "imageTag 'latest' can be moved to another image, and CloudFormation does not ask again while the tag stays the same. " +
            "Deploy by digest (imageTag: 'sha256:...'), or run what was verified: pass verifier.imageUri on to what runs the image.",
        ),
        warning,
      );
      assert.match(warning!, /\[ack: @ecr-scan-verifier:mutableTag\]/);
    });
  }
  for (const [what, imageTag] of [
    ['a digest', DIGEST],
    ['what is called a digest', 'sha256:4f0c'],
    ['any other tag of a repository that may be set either way', '1.4.2'],
  ]) {
    test(`${what} raises none`, () => assert.deepEqual(warningsOf({ imageTag }), []));
  }

  test('a tag that is only known at deployment is left alone', () => {
    const stack = newStack();
    const repository = new ecr.Repository(stack, 'Own');
    verifier(stack, { repository, imageTag: new CfnParameter(stack, 'Tag').valueAsString });
    assert.deepEqual(warnings(stack), []);
    assert.equal(find(resources(stack), 'Custom::EcrScanVerifier').Properties.imageTag, '{Tag}');
  });

  const { IMMUTABLE, MUTABLE, IMMUTABLE_WITH_EXCLUSION } = ecr.TagMutability;
  for (const [mutability, imageTag, moves] of [
    [undefined, '1.4.2', true],
    [MUTABLE, '1.4.2', true],
    [MUTABLE, 'latest', true],
    [IMMUTABLE, '1.4.2', false],
    [IMMUTABLE, 'latest', false],
    [IMMUTABLE_WITH_EXCLUSION, '1.4.2', false],
    [IMMUTABLE_WITH_EXCLUSION, 'latest', true], // what people exclude
    [MUTABLE, DIGEST, false],
    [MUTABLE, 'sha256:4f0c', false], // meant as one; the function says what is wrong with it
    [MUTABLE, 'f'.repeat(63), true],
    [MUTABLE, 'f'.repeat(64), false], // the tag of an asset is a hash of what it names
    [MUTABLE, `api-${'f'.repeat(64)}`, false],
  ] as [ecr.TagMutability | undefined, string, boolean][]) {
    test(`'${imageTag}' in a repository of this app with ${mutability ?? 'no'} mutability: ${moves ? 'a' : 'no'} warning`, () => {
      const stack = newStack();
      const repository = new ecr.Repository(stack, 'Own');
      (repository.node.defaultChild as ecr.CfnRepository).imageTagMutability = mutability;
      verifier(stack, { imageTag, repository });
      assert.equal(warnings(stack).length, moves ? 1 : 0);
    });
  }
});

describe('what was verified', () => {
  const REPOSITORY_URI = `${ACCOUNT}.dkr.ecr.${REGION}.amazonaws.com/payments-api`;
  const IMAGE_URI = `${REPOSITORY_URI}@${DIGEST}`;
  const answered = (uri: string, digest: string): Record<string, string> => ({ '{VerifierGatedemo.ImageUri}': uri, '{VerifierGatedemo.ImageDigest}': digest });

  test('is what the gate answered', () => {
    const stack = newStack();
    const { imageDigest, imageUri } = verifier(stack);
    const [gateId] = Object.keys(Template.fromStack(stack).findResources('Custom::EcrScanVerifier'));
    assert.deepEqual(stack.resolve(imageDigest), { 'Fn::GetAtt': [gateId, 'ImageDigest'] });
    assert.deepEqual(stack.resolve(imageUri), { 'Fn::GetAtt': [gateId, 'ImageUri'] });
  });

  for (const [what, imageTag, expected] of [
    ['has its tag, for people', '1.4.2', `${REPOSITORY_URI}:1.4.2@${DIGEST}`],
    ['has the tag that is taken when none is given', undefined, `${REPOSITORY_URI}:latest@${DIGEST}`],
    ['has no tag where none was given', DIGEST, IMAGE_URI],
  ] as const) {
    test(what, () => {
      const stack = newStack();
      const { imageUriWithTag } = verifier(stack, { imageTag });
      assert.equal(plain(stack.resolve(imageUriWithTag), answered(IMAGE_URI, DIGEST)), expected);
    });
  }

  test('has the tag that is only known at deployment', () => {
    const stack = newStack();
    const { imageUriWithTag } = verifier(stack, { imageTag: new CfnParameter(stack, 'Tag').valueAsString });
    assert.equal(plain(stack.resolve(imageUriWithTag), answered(IMAGE_URI, DIGEST)), `${REPOSITORY_URI}:{Tag}@${DIGEST}`);
  });

  test('has no second tag in a rollback to an image that nobody recorded', () => {
    const stack = newStack();
    const { imageUriWithTag } = verifier(stack, { imageTag: '1.4.2' });
    assert.equal(plain(stack.resolve(imageUriWithTag), answered('payments-api:1.4.2', '')), 'payments-api:1.4.2');
  });

  for (const attribute of ['imageDigest', 'imageUri', 'imageUriWithTag'] as const) {
    test(`whoever uses ${attribute} waits for the gate, without blockConstructs`, () => {
      const stack = newStack();
      const stringValue = verifier(stack, { imageTag: '1.4.2' })[attribute];
      new ssm.StringParameter(stack, 'Service', { stringValue });
      const template = Template.fromStack(stack).toJSON();
      const [gateId] = Object.keys(template.Resources).filter((id) => template.Resources[id].Type === 'Custom::EcrScanVerifier');
      const [service] = Object.values<any>(template.Resources).filter((r) => r.Type === 'AWS::SSM::Parameter');
      // CloudFormation makes a dependency of each reference.
      assert.match(JSON.stringify(service.Properties.Value), new RegExp(`"Fn::GetAtt":\\["${gateId}",`));
    });
  }

  test('makes the stack that uses it wait for the stack of the gate', () => {
    const app = newApp();
    const stack = new Stack(app, 'gates', { env: HOME });
    const other = new Stack(app, 'services', { env: HOME });
    new ssm.StringParameter(other, 'Service', { stringValue: verifier(stack).imageUri });
    app.synth();
    assert.deepEqual(other.dependencies.map((d) => d.stackName), ['gates']);
  });

  test('can be used by what is blocked as well', () => {
    const stack = newStack();
    const service = new ssm.CfnParameter(stack, 'Service', { type: 'String', value: 'to be set' });
    service.value = verifier(stack, { blockConstructs: [service] }).imageUri;
    const { DependsOn, Properties } = find(resources(stack), 'AWS::SSM::Parameter');
    assert.deepEqual([DependsOn, Properties.Value], [['VerifierGatedemo'], '{VerifierGatedemo.ImageUri}']);
  });
});

describe('onUnscanned', () => {
  for (const [choice, form] of [[undefined, undefined], [OnUnscanned.BLOCK, undefined], [OnUnscanned.WARN, 'warn'], [OnUnscanned.ALLOW, 'allow']] as const) {
    test(`${choice ?? 'not given'}: the gate hears ${form ?? 'nothing'}`, () => {
      const { Properties } = gate({ onUnscanned: choice });
      assert.equal(Properties.onUnscanned, form);
      assert.equal('onUnscanned' in Properties, form !== undefined);
    });
  }

  test('any other word is refused', () => {
    assert.throws(() => gate({ onUnscanned: 'ignore' as OnUnscanned }), {
      message: "onUnscanned must be one of block, warn, allow, got 'ignore'. Use a member of OnUnscanned.",
    });
  });

  test('a word that is only known at deployment is left alone', () => {
    const stack = newStack();
    const choice = new CfnParameter(stack, 'Choice').valueAsString as OnUnscanned;
    assert.equal(gate({ onUnscanned: choice }, stack).Properties.onUnscanned, '{Choice}');
  });
});

describe('platforms', () => {
  for (const platforms of [['linux/arm64'], ['linux/arm64/v8', 'linux/arm/v7', 'linux/amd64', 'windows/amd64'], ['linux/arm64', 'linux/arm64/v8']]) {
    test(`${platforms} go along as written`, () => assert.deepEqual(gate({ platforms }).Properties.platforms, platforms));
  }

  test('are not said when all count', () => assert.ok(!('platforms' in gate().Properties)));

  test('none at all are refused', () => {
    assert.throws(() => gate({ platforms: [] }), {
      message:
        'platforms must contain at least one platform: with an empty list nothing of the image would be looked at. Leave it out, and all of them count.',
    });
  });

  for (const odd of ['', 'arm64', 'linux', 'Linux/arm64', 'linux/ARM64', 'linux/x86_64', 'linux/', '/arm64', 'linux/arm64/', 'linux/arm64/v8/x', ' linux/arm64', 'linux/arm64,linux/amd64']) {
    test(`'${odd}' is refused`, () => {
      assert.throws(() => gate({ platforms: ['linux/amd64', odd] }), {
        message: `platforms contains '${odd}', which is no platform: write os/architecture or os/architecture/variant in lower case, for example linux/arm64 or linux/arm/v7.`,
      });
    });
  }

  test('one that is named twice is refused', () => {
    assert.throws(() => gate({ platforms: ['linux/arm64', 'linux/amd64', 'linux/arm64'] }), {
      message: "platforms contains 'linux/arm64' twice. Name each platform once.",
    });
  });

  test('that are only known at deployment are left alone', () => {
    const stack = newStack();
    const one = new CfnParameter(stack, 'One').valueAsString;
    assert.deepEqual(gate({ platforms: [one, one] }, stack).Properties.platforms, ['{One}', '{One}']);
    const other = newStack();
    const all = new CfnParameter(other, 'All', { type: 'CommaDelimitedList' }).valueAsList;
    assert.equal(gate({ platforms: all }, other).Properties.platforms, '{All}');
  });
});

describe('maxScanAge', () => {
  for (const [age, seconds] of [[Duration.hours(1), '3600'], [Duration.minutes(90), '5400'], [Duration.days(365), '31536000']] as const) {
    test(`${age.toHumanString()} are ${seconds} seconds`, () => assert.equal(gate({ maxScanAge: age }).Properties.maxScanAgeSeconds, seconds));
  }

  test('is not said when it is not given', () => assert.ok(!('maxScanAgeSeconds' in gate().Properties)));

  for (const age of [Duration.seconds(3599), Duration.seconds(0), Duration.days(366), Duration.seconds(365 * 86400 + 1)]) {
    test(`${age.toHumanString()} are refused`, () => {
      assert.throws(() => gate({ maxScanAge: age }), {
        message: `maxScanAge must be between 1 hour and 365 days, got ${age.toHumanString()}. Leave it out for the default: 24 hours where the gate may start scans, else no limit.`,
      });
    });
  }

  test('seconds that are only known at deployment are left alone, and another unit is refused by the CDK itself', () => {
    const stack = newStack();
    const age = new CfnParameter(stack, 'Age', { type: 'Number' }).valueAsNumber;
    assert.equal(gate({ maxScanAge: Duration.seconds(age) }, stack).Properties.maxScanAgeSeconds, '{Age}');
    assert.throws(() => gate({ maxScanAge: Duration.hours(age) }), /must be specified as 'Duration\.seconds\(\)' here/);
  });
});

describe('the repository', () => {
  const named = (arn: string, props = {}): (() => Resource) => () => {
    const stack = newStack({ env: HOME, ...props });
    return gate({ repository: ecr.Repository.fromRepositoryAttributes(stack, 'Far', { repositoryArn: arn, repositoryName: 'payments-api' }) }, stack);
  };
  const arn = (region: string, account: string): string => `arn:aws:ecr:${region}:${account}:repository/payments-api`;

  test('of this account and region is accepted', () => {
    assert.equal(named(arn(REGION, ACCOUNT))().Properties.repositoryArn, arn(REGION, ACCOUNT));
  });

  test('of another account is refused, with the reason', () => {
    assert.throws(named(arn(REGION, '210987654321')), {
      message:
        `repository is in account 210987654321, but stack 'payments' deploys to account ${ACCOUNT}. ` +
        'A gate looks only at repositories of its own account and region: scans and their events stay there. ' +
        'Put the verifier into a stack of that account, or replicate the image and name the replica.',
    });
  });

  test('of another region is refused', () => {
    assert.throws(named(arn('us-east-1', ACCOUNT)), /^Error: repository is in region us-east-1, but stack 'payments' deploys to region eu-west-1/);
  });

  test('imported by its ARN alone is looked at too', () => {
    const stack = newStack();
    const far = ecr.Repository.fromRepositoryArn(stack, 'Far', arn(REGION, '210987654321'));
    assert.throws(() => gate({ repository: far }, stack), /repository is in account 210987654321/);
  });

  test('made by a stack of another region is refused', () => {
    const app = newApp();
    const far = new Stack(app, 'far', { env: { account: ACCOUNT, region: 'us-east-1' } });
    const near = new Stack(app, 'near', { env: HOME });
    assert.throws(() => gate({ repository: new ecr.Repository(far, 'R') }, near), /repository is in region us-east-1/);
  });

  test('is left alone while its own account is open', () => {
    const app = newApp();
    const open = ecr.Repository.fromRepositoryName(new Stack(app, 'anywhere'), 'Open', 'payments-api');
    assert.doesNotThrow(() => gate({ repository: open }, new Stack(app, 'payments', { env: HOME })));
  });

  test('is left alone while the account of the stack is open: the function refuses it then', () => {
    assert.doesNotThrow(named(arn('us-east-1', '210987654321'), { env: undefined }));
  });
});

describe('the pipeline', () => {
  const elsewhere = (region: string): (() => Resource) => () => {
    const app = newApp();
    const scanning = new Stack(app, 'scanning', { env: { account: ACCOUNT, region } });
    const pipeline = new EcrScanPipeline(scanning, 'Pipeline', { pipelineName: 'demo' });
    const stack = new Stack(app, 'payments', { env: HOME });
    const made = gate({ pipeline }, stack);
    assert.deepEqual(stack.dependencies.map((d) => d.stackName), ['scanning'], 'the pipeline is deployed first');
    assert.equal(Template.fromStack(scanning).toJSON().Outputs, undefined, 'and exports nothing');
    return made;
  };

  test('of another stack is asked by its name', () => {
    assert.equal(elsewhere(REGION)().Properties.ServiceToken, `arn:aws:lambda:${REGION}:${ACCOUNT}:function:ecr-scan-verifier-demo-on-deploy`);
  });

  test('of another region is refused', () => {
    assert.throws(elsewhere('us-east-1'), /^Error: pipeline 'demo' is in region us-east-1, but stack 'payments' deploys to region eu-west-1/);
  });

  test('of the same stack is complete before the gate asks', () => {
    const stack = newStack();
    const { DependsOn } = gate({ pipeline: new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo' }) }, stack);
    assert.deepEqual(DependsOn, wholePipeline(stack, 'Pipeline'));
  });
});

describe('without a pipeline', () => {
  const twoGates = (): Stack => {
    const stack = newStack();
    new EcrScanVerifier(stack, 'Api', gateProps(stack, { repository: repositoryNamed(stack, 'payments-api') }));
    new EcrScanVerifier(stack, 'Worker', gateProps(stack, { repository: repositoryNamed(stack, 'payments/worker') }));
    return stack;
  };
  const eightHex = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 8);
  const NAME = `payments-${eightHex('payments/payments')}`;
  const pipelineNameIn = (stack: Stack): string =>
    find(resources(stack), 'AWS::Lambda::Function', 'OnScan').Properties.Environment.Variables.PIPELINE;

  test('the verifiers of a stack share one', () => {
    const made = resources(twoGates());
    assert.equal(findAll(made, 'AWS::Lambda::Function').length, 4);
    const tokens = findAll(made, 'Custom::EcrScanVerifier').map((g) => g.Properties.ServiceToken);
    assert.deepEqual(tokens, Array(2).fill(`arn:aws:lambda:${REGION}:${ACCOUNT}:function:ecr-scan-verifier-${NAME}-on-deploy`));
  });

  test('two stacks have two', () => {
    const app = newApp();
    const stacks = ['one', 'two'].map((id) => new Stack(app, id, { env: HOME }));
    stacks.forEach((stack) => new EcrScanVerifier(stack, 'Verifier', gateProps(stack)));
    const names = stacks.map((stack) => find(resources(stack), 'AWS::Lambda::Function', 'OnDeploy').Properties.FunctionName);
    assert.equal(new Set(names).size, 2);
  });

  for (const [stackName, readable] of [
    ['payments', 'payments'],
    ['Payments-Api', 'payments-api'],
    ['A-very-long-name-of-a-stack', 'a-very-long-name-of-'],
  ] as const) {
    test(`the one of stack '${stackName}' is called ${readable}-, and a hash`, () => {
      const stack = newStack({ env: HOME, stackName });
      new EcrScanVerifier(stack, 'Verifier', gateProps(stack));
      assert.equal(pipelineNameIn(stack), `${readable}-${eightHex(`${stackName}/payments`)}`);
    });
  }

  test('a nested stack has its own, under the name of its top stack', () => {
    const top = newStack();
    const nested = new NestedStack(top, 'Nested');
    for (const stack of [top, nested]) {
      new EcrScanVerifier(stack, 'Verifier', gateProps(stack));
    }
    assert.equal(pipelineNameIn(top), `payments-${eightHex('payments/payments')}`);
    assert.equal(pipelineNameIn(nested), `payments-${eightHex('payments/payments/Nested')}`);
    const stacks = permissions(resources(nested), 'OnDeploy').filter((line) => line.includes('DescribeStacks'));
    assert.deepEqual(stacks, [`Allow cloudformation:DescribeStacks on arn:aws:cloudformation:${REGION}:${ACCOUNT}:stack/*`], 'it rolls back with its parents');
  });

  test('the rules listen to the repositories of the gates alone', () => {
    const made = resources(twoGates());
    const pattern = (id: string): any => find(made, 'AWS::Events::Rule', id).Properties.EventPattern;
    const names = ['payments-api', 'payments/worker'];
    const arns = names.map((name) => `arn:aws:ecr:${REGION}:${ACCOUNT}:repository/${name}`);
    assert.deepEqual(pattern('Pushes').detail, { 'repository-name': names });
    assert.deepEqual(pattern('BasicScans').detail, { 'repository-name': names });
    assert.deepEqual(pattern('EnhancedScans').detail, { 'repository-name': arns });
    assert.deepEqual(pattern('PipelineFindings').resources, arns.map((arn) => ({ prefix: `${arn}/sha256:` })));
    assert.deepEqual(Object.keys(pattern('Coverage')), ['source', 'detail-type']);
  });

  test('the functions may read the repositories of the gates alone, and ask for this stack', () => {
    const made = resources(twoGates());
    for (const id of ['OnPush', 'OnScan', 'OnDeploy', 'OnSweep']) {
      const read = permissions(made, id).filter((line) => line.includes('ecr:') && !line.endsWith(' on *'));
      const repositories = new Set(read.map((line) => line.split(' on ')[1]));
      assert.deepEqual(repositories, new Set(['payments-api', 'payments/worker'].map((name) => `arn:aws:ecr:${REGION}:${ACCOUNT}:repository/${name}`)), id);
    }
    for (const [id, calls] of Object.entries({ OnDeploy: ['DescribeStacks'], OnSweep: ['DescribeStackResource', 'DescribeStacks'] })) {
      const asked = permissions(made, id).filter((line) => line.includes('cloudformation:'));
      assert.deepEqual(asked, calls.map((call) => `Allow cloudformation:${call} on arn:aws:cloudformation:${REGION}:${ACCOUNT}:stack/the-stack/*`));
    }
  });

  test('a repository that two gates name is listened to once', () => {
    const stack = newStack();
    ['One', 'Two'].forEach((id) => {
      new EcrScanVerifier(stack, id, gateProps(stack, { repository: ecr.Repository.fromRepositoryName(stack, `${id}Named`, 'payments-api') }));
      const imported = { repositoryName: Fn.importValue('Name'), repositoryArn: Fn.importValue('Arn') };
      const repository = ecr.Repository.fromRepositoryAttributes(stack, `${id}Imported`, imported);
      new EcrScanVerifier(stack, `${id}OfImport`, gateProps(stack, { repository }));
    });
    const { detail } = find(resources(stack), 'AWS::Events::Rule', 'Pushes').Properties.EventPattern;
    assert.deepEqual(detail, { 'repository-name': ['payments-api', { 'Fn::ImportValue': 'Name' }] });
  });

  test('twenty repositories fit, the next is refused with the way out', () => {
    const stack = newStack();
    const add = (n: number): EcrScanVerifier =>
      new EcrScanVerifier(stack, `Verifier${n}`, gateProps(stack, { repository: repositoryNamed(stack, `service-${n}`) }));
    for (let n = 1; n <= 20; n++) {
      add(n);
    }
    assert.throws(() => add(21), /name more than 20 repositories.*Make one EcrScanPipeline/);
  });

  test('it looks after what its gates have let in, and after nothing else', () => {
    const made = resources(twoGates());
    const variables = (id: string): any => find(made, 'AWS::Lambda::Function', id).Properties.Environment.Variables;
    assert.deepEqual([variables('OnSweep').SWEEPS, variables('OnSweep').DAILY_RESCANS], ['deployed', '100']);
    assert.deepEqual(permissions(made, 'OnSweep').filter((line) => line.includes('DescribeRepositories')), []);
    assert.deepEqual(findAll(made, 'Custom::EcrScanVerifierBackfill'), []);
    assert.equal(find(made, 'AWS::Events::Rule', 'EveryDay').Properties.Targets[0].Arn, '{ImplicitEcrScanPipelineOnSweep.Arn}');
  });

  test('it tells the topics of its gates alone, and announces nothing', () => {
    const made = resources(twoGates());
    const { ALERTS, ALERT_TOPIC_ARN, EVENT_BUS } = find(made, 'AWS::Lambda::Function', 'OnScan').Properties.Environment.Variables;
    assert.deepEqual([ALERTS, ALERT_TOPIC_ARN, EVENT_BUS], ['{"on":"DEPLOYED","warnDays":7}', undefined, undefined]);
    assert.deepEqual(permissions(made, 'OnScan').filter((line) => / (sns|events):/.test(line)), []);
  });

  test('its waits end too: on-sweep is woken every minute, and what on-deploy fails on is kept', () => {
    const made = resources(twoGates());
    const [target] = find(made, 'AWS::Events::Rule', 'EveryMinute').Properties.Targets;
    assert.equal(target.Arn, '{ImplicitEcrScanPipelineOnSweep.Arn}');
    const { DestinationConfig } = find(made, 'AWS::Lambda::EventInvokeConfig', /OnDeploy/).Properties;
    assert.equal(DestinationConfig.OnFailure.Destination, '{ImplicitEcrScanPipelineOnDeployFailures.Arn}');
    assert.equal(find(made, 'AWS::Lambda::EventSourceMapping', 'FailuresToOnScan').Properties.EventSourceArn, '{ImplicitEcrScanPipelineOnDeployFailures.Arn}');
  });

  test('every gate waits until the pipeline is complete', () => {
    const stack = twoGates();
    for (const { DependsOn } of findAll(resources(stack), 'Custom::EcrScanVerifier')) {
      assert.deepEqual(DependsOn, wholePipeline(stack, 'ImplicitEcrScanPipeline'));
    }
  });

  test('it goes with the stack; only the bucket, which may not be empty, stays behind', () => {
    for (const { Type, DeletionPolicy } of resources(twoGates())) {
      if (['AWS::DynamoDB::Table', 'AWS::Logs::LogGroup', 'AWS::SQS::Queue'].includes(Type)) {
        assert.equal(DeletionPolicy, 'Delete', Type);
      }
      if (Type === 'AWS::S3::Bucket') {
        assert.equal(DeletionPolicy, 'RetainExceptOnCreate');
      }
    }
  });

  test('two verifiers with different architectures: the first one chooses, the other is warned', () => {
    const stack = newStack();
    new EcrScanVerifier(stack, 'One', gateProps(stack, { architecture: lambda.Architecture.X86_64 }));
    assert.deepEqual(warnings(stack), []);
    new EcrScanVerifier(stack, 'Two', gateProps(stack, { architecture: lambda.Architecture.ARM_64 }));
    assert.match(warnings(stack).join(), /^architecture arm64 has no effect.*the first one chose x86_64.*\[ack: @ecr-scan-verifier:differentArchitectures\]/);
    assert.deepEqual(find(resources(stack), 'AWS::Lambda::Function', 'OnDeploy').Properties.Architectures, ['x86_64']);
  });

  describe('defaultLogGroup', () => {
    const W01 =
      "You have to set the same log group for 'defaultLogGroup' for each EcrScanVerifier construct in the same stack. " +
      '[ack: @ecr-scan-verifier:duplicateLambdaDefaultLogGroup]';
    const groupOf = (stack: Stack, id: string): logs.LogGroup => new logs.LogGroup(stack, id, { logGroupName: id.toLowerCase() });
    const gates = (stack: Stack, ...groups: (logs.ILogGroup | undefined)[]): string[] => {
      groups.forEach((defaultLogGroup, n) => new EcrScanVerifier(stack, `V${n}`, gateProps(stack, { defaultLogGroup })));
      return warnings(stack);
    };

    test('is where the two functions that answer gates log, and where the gate says that they do', () => {
      const stack = newStack();
      assert.deepEqual(gates(stack, groupOf(stack, 'Mine')), []);
      const made = resources(stack);
      const groups = Object.fromEntries(findAll(made, 'AWS::Lambda::Function').map((f) => [f.id, f.Properties.LoggingConfig.LogGroup]));
      const own = (id: string): string => `{ImplicitEcrScanPipeline${id}Logs}`;
      const expected = { OnPush: own('OnPush'), OnScan: '{Mine}', OnDeploy: '{Mine}', OnSweep: own('OnSweep') };
      assert.deepEqual(groups, Object.fromEntries(Object.entries(expected).map(([id, group]) => [`ImplicitEcrScanPipeline${id}`, group])));
      for (const id of ['OnScan', 'OnDeploy']) {
        const lines = permissions(made, id).filter((line) => line.includes('logs:'));
        assert.deepEqual(lines, ['Allow logs:CreateLogStream on {Mine.Arn}', 'Allow logs:PutLogEvents on {Mine.Arn}']);
      }
      assert.equal(find(made, 'Custom::EcrScanVerifier').Properties.defaultLogGroupName, '{Mine}');
    });

    test('is the same for all gates, or one is warned in the words of the original', () => {
      const same = newStack();
      const group = groupOf(same, 'Mine');
      assert.deepEqual(gates(same, group, group), []);
      for (const pick of [[0, 1], [0, undefined], [undefined, 0]]) {
        const stack = newStack();
        const made = [groupOf(stack, 'One'), groupOf(stack, 'Two')];
        assert.deepEqual(gates(stack, ...pick.map((n) => (n === undefined ? n : made[n]))), [W01], String(pick));
      }
    });

    test('cannot tell the functions of another pipeline where to log, and says so', () => {
      const stack = newStack();
      const made = verifier(stack, { defaultLogGroup: groupOf(stack, 'Mine') });
      assert.match(warnings(stack).join(), /^defaultLogGroup has no effect together with 'pipeline'.*use scanLogsOutput.*\[ack: @ecr-scan-verifier:defaultLogGroupWithoutEffect\]$/);
      assert.ok(made.node.tryFindChild('Gate-demo'));
      assert.equal(find(resources(stack), 'Custom::EcrScanVerifier').Properties.defaultLogGroupName, '/aws/lambda/ecr-scan-verifier-demo-on-deploy');
    });
  });

  test('two verifiers with the same architecture raise no warning', () => {
    const stack = newStack();
    ['One', 'Two'].forEach((id) => new EcrScanVerifier(stack, id, gateProps(stack, { architecture: lambda.Architecture.X86_64 })));
    assert.deepEqual(warnings(stack), []);
  });

  test('refused props leave nothing behind', () => {
    const stack = newStack();
    for (const bad of [
      { severity: [] },
      { graceDays: 0 },
      { ignoreUnfixed: true }, // with basic scanning
      { platforms: [] },
      { maxScanAge: Duration.minutes(1) },
      { onUnscanned: 'ignore' as OnUnscanned },
      { pollingTimeout: Duration.seconds(0) },
      { scanConfig: ScanConfig.signatureOnly() },
      { architecture: lambda.Architecture.custom('riscv64') },
      { repository: ecr.Repository.fromRepositoryArn(stack, 'Far', `arn:aws:ecr:us-east-1:${ACCOUNT}:repository/x`) },
    ]) {
      const id = `Verifier${Object.keys(bad)}`;
      assert.throws(() => new EcrScanVerifier(stack, id, gateProps(stack, bad)));
    }
    assert.deepEqual(resources(stack), []);
  });
});

describe('blockConstructs', () => {
  const sbom = (bucket: s3.IBucket, encryptionKey: kms.IKey): Partial<EcrScanVerifierProps> => ({
    scanConfig: ScanConfig.enhanced({ sbomOutput: SbomOutput.spdx23({ bucket, encryptionKey }) }),
  });
  const parameter = (scope: Construct, id: string): ssm.StringParameter => new ssm.StringParameter(scope, id, { stringValue: id });

  test('every resource of a blocked construct waits for the gate, others do not', () => {
    const stack = newStack();
    const service = new Construct(stack, 'Service');
    parameter(service, 'A');
    parameter(service, 'B');
    const blocked = parameter(stack, 'Blocked');
    parameter(stack, 'Free');
    verifier(stack, { blockConstructs: [service, blocked] });
    const waits = Object.fromEntries(findAll(resources(stack), 'AWS::SSM::Parameter').map((r) => [r.id, r.DependsOn]));
    const id = find(resources(stack), 'Custom::EcrScanVerifier').id;
    assert.deepEqual(waits, { ServiceA: [id], ServiceB: [id], Blocked: [id], Free: [] });
  });

  test('a construct of another stack waits with its whole stack', () => {
    const app = newApp();
    const stack = new Stack(app, 'gates', { env: HOME });
    const other = new Stack(app, 'services', { env: HOME });
    verifier(stack, { blockConstructs: [parameter(other, 'P')] });
    Template.fromStack(stack);
    assert.deepEqual(other.dependencies.map((d) => d.stackName), ['gates']);
  });

  test('a construct that contains the gate is refused', () => {
    const stack = newStack();
    const service = new Construct(stack, 'Service');
    const pipeline = EcrScanPipeline.fromName(stack, 'Pipeline', 'demo');
    assert.throws(
      () => new EcrScanVerifier(service, 'Verifier', { ...gateProps(stack, { pipeline, blockConstructs: [service] }) }),
      /blockConstructs contains 'payments\/Service', which contains the gate \('payments\/Service\/Verifier'\): each would wait for the other/,
    );
  });

  test('a construct that contains the repository is refused, unless the repository is only named there', () => {
    const stack = newStack();
    const service = new Construct(stack, 'Service');
    const own = new ecr.Repository(service, 'Own');
    assert.throws(() => verifier(stack, { repository: own, blockConstructs: [service] }, 'One'), /contains the repository \('payments\/Service\/Own'\)/);
    const named = ecr.Repository.fromRepositoryName(service, 'Named', 'payments-api');
    assert.doesNotThrow(() => verifier(stack, { repository: named, blockConstructs: [service] }, 'Two'));
  });

  for (const [what, need] of [
    ['bucket of scanLogsOutput', (in_: Construct) => ({ scanLogsOutput: ScanLogsOutput.s3({ bucket: new s3.Bucket(in_, 'Needed') }) })],
    [
      'key of the bucket of scanLogsOutput',
      (in_: Construct, beside: Construct) => {
        const encryptionKey = new kms.Key(in_, 'Needed');
        return { scanLogsOutput: ScanLogsOutput.s3({ bucket: new s3.Bucket(beside, 'Bucket', { encryptionKey }) }) };
      },
    ],
    ['log group of scanLogsOutput', (in_: Construct) => ({ scanLogsOutput: ScanLogsOutput.cloudWatchLogs({ logGroup: new logs.LogGroup(in_, 'Needed') }) })],
    ['vulnsNotificationTopic', (in_: Construct) => ({ vulnsNotificationTopic: new sns.Topic(in_, 'Needed') })],
    [
      'key of vulnsNotificationTopic',
      (in_: Construct, beside: Construct) => ({ vulnsNotificationTopic: new sns.Topic(beside, 'Topic', { masterKey: new kms.Key(in_, 'Needed') }) }),
    ],
    ['bucket of sbomOutput', (in_: Construct, beside: Construct) => sbom(new s3.Bucket(in_, 'Needed'), new kms.Key(beside, 'Key'))],
    ['encryptionKey of sbomOutput', (in_: Construct, beside: Construct) => sbom(new s3.Bucket(beside, 'Bucket'), new kms.Key(in_, 'Needed'))],
    [
      'key of the bucket of sbomOutput',
      (in_: Construct, beside: Construct) => sbom(new s3.Bucket(beside, 'Bucket', { encryptionKey: new kms.Key(in_, 'Needed') }), new kms.Key(beside, 'Key')),
    ],
    ['key of signatureVerification', (in_: Construct) => ({ signatureVerification: SignatureVerification.cosignKms({ key: signingKey(in_, 'Needed') }) })],
    ['repository', (in_: Construct) => ({ repository: new ecr.Repository(in_, 'Needed') })],
  ] as [string, (in_: Construct, beside: Construct) => Partial<EcrScanVerifierProps>][]) {
    test(`a construct that contains the ${what} is refused, one beside it is not`, () => {
      const stack = newStack();
      const service = new Construct(stack, 'Service');
      const props = need(service, stack);
      assert.throws(() => verifier(stack, { ...props, blockConstructs: [service] }, 'Bad'), {
        message:
          `blockConstructs contains 'payments/Service', which contains the ${what} ('payments/Service/Needed'): each would wait for the other. ` +
          `List only what runs the image (the service, the function), or move the ${what} out of 'payments/Service'.`,
      });
      const other = newStack();
      const free = new Construct(other, 'Free');
      assert.doesNotThrow(() => verifier(other, { ...need(other, other), blockConstructs: [free] }));
    });
  }

  test('the gates of a stack wait for what any of them needs, so none may hold it back', () => {
    const withLogs = (in_: Construct): Partial<EcrScanVerifierProps> => ({ scanLogsOutput: ScanLogsOutput.s3({ bucket: new s3.Bucket(in_, 'Needed') }) });
    const refused = /^Error: blockConstructs of 'payments\/(One|Two)' contains 'payments\/Service', which contains the bucket of scanLogsOutput \('payments\/Service\/Needed'\) of 'payments\/(One|Two)', with which it shares its role for the outputs to pipeline 'demo': each would wait/;
    for (const blockerFirst of [true, false]) {
      const stack = newStack();
      const service = new Construct(stack, 'Service');
      const blocker = { vulnsNotificationTopic: new sns.Topic(stack, 'Topic'), blockConstructs: [service] };
      const [one, two] = blockerFirst ? [blocker, withLogs(service)] : [withLogs(service), blocker];
      verifier(stack, one, 'One');
      assert.throws(() => verifier(stack, two, 'Two'), refused);
    }
    const apart = newStack();
    const service = new Construct(apart, 'Service');
    verifier(apart, { blockConstructs: [service] }, 'WithoutOutputs');
    assert.doesNotThrow(() => verifier(apart, withLogs(service), 'Other'));
  });

  test('nor what the pipeline that they share listens to', () => {
    const stack = newStack();
    const service = new Construct(stack, 'Service');
    new EcrScanVerifier(stack, 'One', gateProps(stack, { blockConstructs: [service] }));
    const repository = new ecr.Repository(service, 'Own');
    assert.throws(
      () => new EcrScanVerifier(stack, 'Two', gateProps(stack, { repository })),
      /contains the repository \('payments\/Service\/Own'\) of 'payments\/Two', with which it shares its pipeline/,
    );
  });

  test('nor where the functions of that pipeline log', () => {
    const stack = newStack();
    const service = new Construct(stack, 'Service');
    const defaultLogGroup = new logs.LogGroup(service, 'Logs');
    const props = gateProps(stack, { defaultLogGroup, blockConstructs: [service] });
    assert.throws(() => new EcrScanVerifier(stack, 'Verifier', props), /contains the defaultLogGroup \('payments\/Service\/Logs'\): each would wait/);
  });

  test('with failOnVulnerability: false they are not kept back by findings, which a warning says', () => {
    const warned = (own: Partial<EcrScanVerifierProps>): string => {
      const stack = newStack();
      verifier(stack, { blockConstructs: [parameter(stack, 'P')], ...own });
      return warnings(stack).join();
    };
    assert.match(warned({ failOnVulnerability: false }), /^blockConstructs waits for the gate, but no finding keeps it back.*\[ack: @ecr-scan-verifier:blockConstructsWithoutFailing\]$/);
    assert.equal(warned({ failOnVulnerability: false, blockConstructs: [] }), '');
    assert.equal(warned({ failOnVulnerability: true }), '');
    assert.equal(warned({}), '');
  });

  test('a construct that contains the pipeline is refused', () => {
    const stack = newStack();
    const platform = new Construct(stack, 'Platform');
    const pipeline = new EcrScanPipeline(platform, 'Pipeline', { pipelineName: 'demo' });
    assert.throws(() => verifier(stack, { pipeline, blockConstructs: [platform] }), /contains the pipeline \('payments\/Platform\/Pipeline'\)/);
  });
});

test('the package exports what it promises', async () => {
  const names = Object.keys(await import('../src')).sort();
  assert.deepEqual(names, [
    'AlertOn',
    'EcrScanPipeline',
    'EcrScanVerifier',
    'OnUnscanned',
    'SbomFormat',
    'SbomOutput',
    'ScanConfig',
    'ScanLogsLayout',
    'ScanLogsOutput',
    'ScanLogsOutputType',
    'Severity',
    'SignatureVerification',
  ]);
  assert.deepEqual(Object.values(SbomFormat), ['CYCLONEDX_1_4', 'SPDX_2_3']);
  assert.deepEqual(Object.entries(ScanLogsOutputType), [['CLOUDWATCH_LOGS', 'cloudWatchLogs'], ['S3', 's3']]);
  assert.deepEqual(Object.entries(Severity).filter(([key, value]) => key !== value), []);
  assert.equal(Object.keys(Severity).length, 7);
});

/** What the gates of a stack wait for: functions and what calls them, mappings, rules and queue policies, each of them. */
function wholePipeline(stack: Stack, prefix: string): string[] {
  const of = (construct: Construct): string[] =>
    construct.node.findAll().filter(CfnResource.isCfnResource).map((r) => String(stack.resolve(r.logicalId)).replace(/[0-9A-F]{8}$/, ''));
  const pipeline = stack.node.findChild(prefix) as Construct;
  const parts = [
    ...['OnDeploy', 'OnSweep'],
    ...['PushesToOnPush', 'ScansToOnScan', 'FindingsToOnScan', 'FailuresToOnScan'],
    ...['Pushes', 'BasicScans', 'EnhancedScans', 'Coverage', 'Findings', 'EveryMinute', 'EveryDay'],
    'OnDeployFailures',
    ...['Push', 'Scan', 'Findings'].flatMap((lane) => [`${lane}Queue`, `${lane}DeadLetters`]),
  ];
  return parts.flatMap((id) => of(pipeline.node.findChild(id) as Construct)).sort();
}
