// The templates for those who deploy without the CDK, made out of what the constructs synthesize: the binaries come from a bucket
// that parameters name, and what an app would decide when it is written is a parameter.
import { CfnOutput, CfnParameter, Fn, Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as sns from 'aws-cdk-lib/aws-sns';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import { Document, isScalar, visit } from 'yaml';
import { AlertOn, EcrScanPipeline, EcrScanVerifier, ScanConfig, Severity } from '../src';
import { newApp } from './support';

type Json = any; // templates are JSON of every shape

/** Stands for the parameter PipelineName: the constructs want to know the name, the templates leave it open. */
const NAME = 'name-of-the-pipeline';

const YES_NO = ['true', 'false'];
const SEVERITIES = ['INFORMATIONAL', 'LOW', 'MEDIUM', 'HIGH', 'CRITICAL'];
const PIPELINE_NAME = { Type: 'String', Description: "The pipeline's name, as gates and the command line use it", AllowedPattern: '[a-z0-9-]{1,32}' };

const PIPELINE_HEAD = `A pipeline for an account and region, without the CDK. Made by \`npm run test:update\`: do not edit.

publish.sh puts each function's \`bootstrap\` into a zip, and the zips into a bucket of this region, under a prefix that is new for
each version, since CloudFormation does not look into them:

  ./publish.sh BUCKET ecr-scan-verifier/0.1.0 arm64
  aws cloudformation deploy --stack-name ecr-scan-verifier --template-file pipeline.yaml \\
    --capabilities CAPABILITY_NAMED_IAM \\
    --parameter-overrides BinariesBucket=BUCKET BinariesPrefix=ecr-scan-verifier/0.1.0/

Tables, findings and logs stay when the stack is deleted. gate-example.yaml shows a gate.`;

const GATE_HEAD = `One gate, without the CDK, and something that it holds back. Made by \`npm run test:update\`: do not edit.

  aws cloudformation deploy --stack-name payments --template-file gate-example.yaml \\
    --parameter-overrides RepositoryName=payments-api ImageTag=1.4.2

Copy the resource Gate into your own template, and let what runs the image depend on it or use its ImageUri. CloudFormation asks
again only when one of its properties changes. What else it can be told is in README.md under "What blocks"; every value is text.
For a signature give one of the three signers: SigningPublicKey="$(cat cosign.pub)". For several at once, signatureVerification is

  {type: ALL_OF | ANY_OF, signers: [{type: COSIGN, kmsKeyArn: ...}, {type: NOTATION, trustedIdentities: [...]}], failOnUnsigned: "true"}`;

export function plainPipeline(): string {
  const stack = newStack();
  const parameter = (id: string): string => new CfnParameter(stack, id).valueAsString;
  new EcrScanPipeline(stack, 'Pipeline', {
    pipelineName: NAME,
    severityThreshold: Severity.HIGH,
    alertTopic: sns.Topic.fromTopicAttributes(stack, 'Alerts', { topicArn: parameter('AlertTopicArn'), keyArn: parameter('AlertTopicKeyArn') }),
  });
  const { Resources } = Template.fromStack(stack).toJSON();
  for (const { Type, Properties } of Object.values<Json>(Resources)) {
    if (Type === 'AWS::Lambda::Function') {
      const [, key] = Properties.FunctionName.split(`${NAME}-`);
      Properties.Code = { S3Bucket: { Ref: 'BinariesBucket' }, S3Key: { 'Fn::Sub': `\${BinariesPrefix}\${Architecture}/${key}.zip` } };
      Properties.Architectures = [{ Ref: 'Architecture' }];
      if ('PIPELINE_POLICY' in Properties.Environment.Variables) {
        Properties.Environment.Variables.PIPELINE_POLICY = { 'Fn::Sub': '{"severityThreshold":"${SeverityThreshold}"}' };
      }
      Object.assign(Properties.Environment.Variables, chosen(Properties.Environment.Variables));
    }
    if (Type === 'AWS::IAM::Policy') {
      Properties.PolicyDocument.Statement = Properties.PolicyDocument.Statement.map(statementIfChosen);
    }
  }
  const [backfill] = Object.values<Json>(Resources).filter(({ Type }) => Type === 'Custom::EcrScanVerifierBackfill');
  backfill.Condition = 'BackfillIsWanted';
  const onDeploy = Object.keys(Resources).find((id) => Resources[id].Properties.FunctionName === `ecr-scan-verifier-${NAME}-on-deploy`)!;
  return yaml(PIPELINE_HEAD, {
    AWSTemplateFormatVersion: '2010-09-09',
    Description: 'ecr-scan-verifier: hears of pushes and scans, remembers verdicts, answers gates',
    Parameters: {
      PipelineName: { ...PIPELINE_NAME, Default: 'main' },
      BinariesBucket: { Type: 'String', Description: "The bucket with the functions' zips, in this region" },
      BinariesPrefix: { Type: 'String', Description: 'What their keys begin with, up to <architecture>/<function>.zip', Default: 'ecr-scan-verifier/' },
      Architecture: { Type: 'String', Description: 'The machine that they were built for', AllowedValues: ['arm64', 'x86_64'], Default: 'arm64' },
      SeverityThreshold: {
        Type: 'String',
        Description: "The pipeline's own verdicts block at this severity and above; each gate judges by its own properties",
        AllowedValues: SEVERITIES,
        Default: 'CRITICAL',
      },
      AlertTopicArn: { Type: 'String', Description: 'The topic that hears alerts; nobody does if empty', Default: '' },
      AlertTopicKeyArn: { Type: 'String', Description: 'The customer managed key that it is encrypted with, if there is one', Default: '' },
      AlertOn: { Type: 'String', Description: 'Which images alerts are about', AllowedValues: Object.values(AlertOn), Default: AlertOn.DEPLOYED },
      AlertSeverity: { Type: 'String', Description: 'Findings below raise no alert', AllowedValues: ['', ...SEVERITIES], Default: '' },
      AlertQuietSeconds: {
        Type: 'String',
        Description: 'For how long new findings are gathered after an alert about the image: 60 to 604800',
        AllowedPattern: '([1-9][0-9]{1,5})?',
        Default: '',
      },
      ExemptionWarningDays: { Type: 'Number', Description: 'How long before an exemption ends somebody is warned', MinValue: 1, MaxValue: 90, Default: 7 },
      VerdictEvents: { Type: 'String', Description: 'Announces verdicts on the default bus', AllowedValues: YES_NO, Default: 'true' },
      DailyRescans: { Type: 'Number', Description: 'How many deployed images are scanned again a day', MinValue: 0, MaxValue: 100_000, Default: 500 },
      WithBackfill: { Type: 'String', Description: 'Looks once for the images that are there already', AllowedValues: YES_NO, Default: 'true' },
    },
    Rules: {
      // As the construct refuses them: they would do nothing.
      AlertsNeedATopic: {
        RuleCondition: { 'Fn::Equals': [{ Ref: 'AlertTopicArn' }, ''] },
        Assertions: [['AlertTopicKeyArn', ''], ['AlertOn', AlertOn.DEPLOYED], ['AlertSeverity', ''], ['AlertQuietSeconds', '']].map(
          ([parameter, usual]) => ({
            Assert: { 'Fn::Equals': [{ Ref: parameter }, usual] },
            AssertDescription: `${parameter} does nothing without AlertTopicArn`,
          }),
        ),
      },
    },
    Conditions: {
      SomebodyHears: unless('AlertTopicArn', ''),
      ItsKeyIsOurs: unless('AlertTopicKeyArn', ''),
      OnlySevere: unless('AlertSeverity', ''),
      WithQuiet: unless('AlertQuietSeconds', ''),
      VerdictsAreAnnounced: unless('VerdictEvents', 'false'),
      BackfillIsWanted: unless('WithBackfill', 'false'),
    },
    Resources,
    Outputs: { OnDeployFunctionArn: { Description: 'The service token of the gates', Value: { 'Fn::GetAtt': [onDeploy, 'Arn'] } } },
  });
}

function unless(parameter: string, value: string): Json {
  return { 'Fn::Not': [{ 'Fn::Equals': [{ Ref: parameter }, value] }] };
}

function onlyIf(condition: string, value: Json, otherwise: Json = { Ref: 'AWS::NoValue' }): Json {
  return { 'Fn::If': [condition, value, otherwise] };
}

/** Of a function's variables those that a parameter decides. */
function chosen(variables: Json): Json {
  const alerts = {
    'Fn::Sub': [
      '{"on":"${AlertOn}"${Quiet}${Severity},"warnDays":${ExemptionWarningDays}}',
      {
        Quiet: onlyIf('WithQuiet', { 'Fn::Sub': ',"quietSeconds":${AlertQuietSeconds}' }, ''),
        Severity: onlyIf('OnlySevere', { 'Fn::Sub': ',"severity":"${AlertSeverity}"' }, ''),
      },
    ],
  };
  const decided: Json = {
    ALERTS: alerts,
    ALERT_TOPIC_ARN: onlyIf('SomebodyHears', variables.ALERT_TOPIC_ARN),
    EVENT_BUS: onlyIf('VerdictsAreAnnounced', variables.EVENT_BUS),
    DAILY_RESCANS: { Ref: 'DailyRescans' },
  };
  return Object.fromEntries(Object.entries(decided).filter(([name]) => name in variables));
}

const CHOSEN_STATEMENTS: Record<string, string> = { Alerts: 'SomebodyHears', KeyOfAlerts: 'ItsKeyIsOurs', AnnounceVerdicts: 'VerdictsAreAnnounced' };

function statementIfChosen(statement: Json): Json {
  const condition = CHOSEN_STATEMENTS[statement.Sid];
  return condition ? onlyIf(condition, statement) : statement;
}

export function plainGate(): string {
  const stack = newStack();
  const parameter = (id: string): string => new CfnParameter(stack, id).valueAsString;
  const imageTag = parameter('ImageTag');
  const verifier = new EcrScanVerifier(stack, 'Gate', {
    repository: ecr.Repository.fromRepositoryName(stack, 'Repository', parameter('RepositoryName')),
    imageTag,
    scanConfig: ScanConfig.basic(),
    severityThreshold: Severity.HIGH,
    pipeline: EcrScanPipeline.fromName(stack, 'Named', NAME),
  });
  new ssm.CfnParameter(stack, 'Released', { type: 'String', description: 'Stands for what runs the image', value: verifier.imageUri });
  for (const attribute of ['Verdict', 'ImageDigest']) {
    const gate = verifier.node.findChild(`Gate-${NAME}`).node.defaultChild as Json;
    new CfnOutput(stack, attribute, { value: Fn.getAtt(gate.logicalId, attribute).toString() });
  }
  const { Resources, Outputs } = Template.fromStack(stack).toJSON();
  const [gate] = Object.values<Json>(Resources).filter(({ Type }) => Type === 'Custom::EcrScanVerifier');
  // Without it the function makes one out of stack and logical id, so that the template can be used twice.
  delete gate.Properties.addr;
  delete gate.Properties.defaultLogGroupName;
  gate.Properties.scanType = { Ref: 'ScanType' };
  gate.Properties.startScan = { 'Fn::If': ['Basic', 'true', 'false'] };
  gate.Properties.severityThreshold = { Ref: 'SeverityThreshold' };
  gate.Properties.signatureVerification = signaturesIfChosen();
  return yaml(GATE_HEAD, {
    AWSTemplateFormatVersion: '2010-09-09',
    Description: 'ecr-scan-verifier: one gate, and a parameter that it holds back',
    Parameters: {
      PipelineName: { ...PIPELINE_NAME, Default: 'main' },
      RepositoryName: { Type: 'String', Description: 'The repository that holds the image' },
      ImageTag: { Type: 'String', Description: 'A tag, or a digest (sha256:...)' },
      ScanType: {
        Type: 'String',
        Description: 'Whose findings decide; with SIGNATURE_ONLY none do',
        AllowedValues: ['BASIC', 'ENHANCED', 'SIGNATURE_ONLY'],
        Default: 'BASIC',
      },
      SeverityThreshold: { Type: 'String', Description: 'Blocks at this severity and above', AllowedValues: SEVERITIES, Default: 'HIGH' },
      ...Object.fromEntries(SIGNERS.map(({ parameter: id, ...told }) => [id, { Type: 'String', ...told, Default: '' }])),
      FailOnUnsigned: { Type: 'String', Description: 'Refuses an image that is not signed so', AllowedValues: YES_NO, Default: 'true' },
    },
    // As the construct refuses them.
    Rules: {
      SignaturesAloneNeedASigner: {
        RuleCondition: { 'Fn::Equals': [{ Ref: 'ScanType' }, 'SIGNATURE_ONLY'] },
        Assertions: [
          {
            Assert: { 'Fn::Or': SIGNERS.map(({ parameter: id }) => unless(id, '')) },
            AssertDescription: `SIGNATURE_ONLY asks for one of ${SIGNERS.map(({ parameter: id }) => id).join(', ')}`,
          },
        ],
      },
      OneSignerAtMost: {
        Assertions: [
          {
            Assert: { 'Fn::Or': SIGNERS.map((kept) => ({ 'Fn::And': SIGNERS.filter((other) => other !== kept).map(({ parameter: id }) => ({ 'Fn::Equals': [{ Ref: id }, ''] })) })) },
            AssertDescription: 'Name one signer: for several of them write signatureVerification yourself',
          },
        ],
      },
    },
    Conditions: {
      Basic: { 'Fn::Equals': [{ Ref: 'ScanType' }, 'BASIC'] },
      ...Object.fromEntries(SIGNERS.map(({ parameter: id }) => [`By${id}`, unless(id, '')])),
    },
    Resources,
    Outputs,
  });
}

/** What a parameter can name: one signer of one kind. */
const SIGNERS = [
  {
    parameter: 'SigningProfileArn',
    Description: 'Asks for a signature of Notation by this profile of AWS Signer',
    AllowedPattern: '(arn:aws[a-z-]*:signer:[a-z0-9-]+:[0-9]{12}:/signing-profiles/[A-Za-z0-9_]{2,64}(/[A-Za-z0-9]{10})?)?',
  },
  {
    parameter: 'SigningKeyArn',
    Description: 'Asks for a signature of Cosign by this key in KMS',
    AllowedPattern: '(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key/[A-Za-z0-9-]+|alias/[A-Za-z0-9/_-]+))?',
  },
  // Whether it can be read the function says. What the pattern is for: a private key never gets in.
  {
    parameter: 'SigningPublicKey',
    Description: 'Asks for a signature of Cosign by this public key, in PEM with its line breaks',
    AllowedPattern: '(-----BEGIN (RSA )?PUBLIC KEY-----[A-Za-z0-9+/=\\s]+-----END (RSA )?PUBLIC KEY-----\\s*)*',
  },
];

function signaturesIfChosen(): Json {
  const failOnUnsigned = { Ref: 'FailOnUnsigned' };
  const one: Record<string, Json> = {
    SigningProfileArn: { type: 'NOTATION', trustedIdentities: [{ Ref: 'SigningProfileArn' }], failOnUnsigned },
    SigningKeyArn: { type: 'COSIGN', kmsKeyArn: { Ref: 'SigningKeyArn' }, failOnUnsigned },
    SigningPublicKey: { type: 'COSIGN', publicKey: { Ref: 'SigningPublicKey' }, failOnUnsigned },
  };
  return SIGNERS.reduceRight<Json>((otherwise, { parameter: id }) => onlyIf(`By${id}`, one[id], otherwise), { Ref: 'AWS::NoValue' });
}

function newStack(): Stack {
  return new Stack(newApp(), 'plain');
}

// Version 1.1, as CloudFormation and most tools read it: there 2012-10-17 without quotes is a date.
function yaml(head: string, template: Json): string {
  const comment = head.split('\n').map((line) => `# ${line}`.trimEnd()).join('\n');
  const document = new Document(withOpenName(withShortIds(template)), { version: '1.1', aliasDuplicateObjects: false });
  visit(document, {
    // On one line: easier to read, and much shorter. CloudFormation takes 51,200 bytes.
    Seq: (_, list) => {
      const width = list.items.reduce<number>((sum, item) => sum + (isScalar(item) ? String(item.value).length + 2 : Infinity), 0);
      list.flow = width <= 110;
    },
  });
  return `${comment}\n${document.toString({ lineWidth: 0, flowCollectionPadding: false })}`;
}

/** Logical ids as a person would write them: without the path of the construct and CDK's hash. */
function withShortIds(template: Json): Json {
  const ids = Object.keys(template.Resources);
  const shorter = new Map(ids.map((id) => [id, id.replace(/[0-9A-F]{8}$/, '').replace(/^Pipeline(?=.)/, '').replace(/^Gate.+/, 'Gate')]));
  if (new Set(shorter.values()).size < ids.length) {
    throw new Error(`two resources would share an id: ${ids.join(', ')}`);
  }
  return map(template, (text) => shorter.get(text) ?? text);
}

/** Joins as one text with `${...}`, and the parameter in the place of the name that stood for it. */
function withOpenName(value: Json): Json {
  if (typeof value === 'string') {
    return value.includes(NAME) ? { 'Fn::Sub': open(value) } : value;
  }
  if (Array.isArray(value)) {
    return value.map(withOpenName);
  }
  if (value === null || typeof value !== 'object') {
    return value;
  }
  if ('Fn::Join' in value) {
    const [separator, parts] = value['Fn::Join'];
    return { 'Fn::Sub': parts.map(asSub).join(separator) };
  }
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withOpenName(inner)]));
}

function asSub(part: Json): string {
  if (typeof part === 'string') {
    return open(part);
  }
  if ('Ref' in part) {
    return `\${${part.Ref}}`;
  }
  return `\${${part['Fn::GetAtt'].join('.')}}`;
}

function open(text: string): string {
  return text.replaceAll('${', '${!').replaceAll(NAME, '${PipelineName}');
}

function map(value: Json, of: (text: string) => string): Json {
  if (typeof value === 'string') {
    return of(value);
  }
  if (Array.isArray(value)) {
    return value.map((inner) => map(inner, of));
  }
  if (value === null || typeof value !== 'object') {
    return value;
  }
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [of(key), map(inner, of)]));
}
