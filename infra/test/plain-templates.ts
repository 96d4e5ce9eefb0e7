// The templates for those who deploy without the CDK, made out of what the constructs synthesize: the binaries come from a bucket
// that parameters name, and what an app would decide when it is written is a parameter.
import { CfnOutput, CfnParameter, Fn, Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import { stringify } from 'yaml';
import { EcrScanPipeline, EcrScanVerifier, ScanConfig, Severity } from '../src';
import { newApp } from './support';

type Json = any; // templates are JSON of every shape

/** Stands for the parameter PipelineName: the constructs want to know the name, the templates leave it open. */
const NAME = 'name-of-the-pipeline';

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
again only when one of its properties changes. What else it can be told is in README.md under "What blocks"; every value is text.`;

export function plainPipeline(): string {
  const stack = newStack();
  new EcrScanPipeline(stack, 'Pipeline', { pipelineName: NAME, severityThreshold: Severity.HIGH });
  const { Resources } = Template.fromStack(stack).toJSON();
  for (const { Type, Properties } of Object.values<Json>(Resources)) {
    if (Type === 'AWS::Lambda::Function') {
      const [, key] = Properties.FunctionName.split(`${NAME}-`);
      Properties.Code = { S3Bucket: { Ref: 'BinariesBucket' }, S3Key: { 'Fn::Sub': `\${BinariesPrefix}\${Architecture}/${key}.zip` } };
      Properties.Architectures = [{ Ref: 'Architecture' }];
      if ('PIPELINE_POLICY' in Properties.Environment.Variables) {
        Properties.Environment.Variables.PIPELINE_POLICY = { 'Fn::Sub': '{"severityThreshold":"${SeverityThreshold}"}' };
      }
    }
  }
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
    },
    Resources,
    Outputs: { OnDeployFunctionArn: { Description: 'The service token of the gates', Value: { 'Fn::GetAtt': [onDeploy, 'Arn'] } } },
  });
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
  return yaml(GATE_HEAD, {
    AWSTemplateFormatVersion: '2010-09-09',
    Description: 'ecr-scan-verifier: one gate, and a parameter that it holds back',
    Parameters: {
      PipelineName: { ...PIPELINE_NAME, Default: 'main' },
      RepositoryName: { Type: 'String', Description: 'The repository that holds the image' },
      ImageTag: { Type: 'String', Description: 'A tag, or a digest (sha256:...)' },
      ScanType: { Type: 'String', Description: 'Whose findings decide', AllowedValues: ['BASIC', 'ENHANCED'], Default: 'BASIC' },
      SeverityThreshold: { Type: 'String', Description: 'Blocks at this severity and above', AllowedValues: SEVERITIES, Default: 'HIGH' },
    },
    Conditions: { Basic: { 'Fn::Equals': [{ Ref: 'ScanType' }, 'BASIC'] } },
    Resources,
    Outputs,
  });
}

function newStack(): Stack {
  return new Stack(newApp(), 'plain');
}

// Version 1.1, as CloudFormation and most tools read it: there 2012-10-17 without quotes is a date.
function yaml(head: string, template: Json): string {
  const comment = head.split('\n').map((line) => `# ${line}`.trimEnd()).join('\n');
  return `${comment}\n${stringify(withOpenName(withShortIds(template)), { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false })}`;
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
