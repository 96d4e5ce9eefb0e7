// A small app: one pipeline, one gate that asks it, and three gates with outputs. The demo and the stories deploy its templates.
//
//   npm run synth                              templates and assets in cdk.out/, without the CDK CLI
//   npx cdk deploy ecr-scan-verifier           the pipeline, through the CLI (see cdk.json)
//
// Context, by `cdk -c key=value`, or as JSON in CDK_CONTEXT_JSON for `npm run synth` (CDK_OUTDIR names another folder):
//   pipelineName                the pipeline's name                                         (demo)
//   architecture                x86_64 or arm64                                             (x86_64)
//   functionEnv                 more environment variables for all four functions: a JSON map of strings, for example
//                               '{"AWS_ENDPOINT_URL_ECR":"http://127.0.0.1:4980"}' on a local AWS. The library has no
//                               such switch; this app reaches into the synthesized functions.
//   ecr-scan-verifier:binaries  the folder with <architecture>/<function>/bootstrap         (binaries/ of the package)
//
// The templates name no account and no region, and do not ask for a bootstrapped account, so both can be created by
// CloudFormation itself. The pipeline's template expects each function's zip at the S3Key that it names, in the bucket
// cdk-hnb659fds-assets-<account>-<region>: zip the content of cdk.out/asset.<hash> (one `bootstrap`, mode 755) as
// <hash>.zip and upload it. The gate's template has no assets.
import { App, Aws, CfnCondition, CfnOutput, CfnParameter, CfnResource, DefaultStackSynthesizer, Fn, RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as sns from 'aws-cdk-lib/aws-sns';
import * as subscriptions from 'aws-cdk-lib/aws-sns-subscriptions';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import { Construct } from 'constructs';
import { AlertOn, EcrScanPipeline, EcrScanVerifier, SbomOutput, ScanConfig, ScanLogsOutput, Severity } from '../src';

const withoutBootstrapCheck = (): DefaultStackSynthesizer => new DefaultStackSynthesizer({ generateBootstrapVersionRule: false });

class PipelineStack extends Stack {
  constructor(scope: Construct, id: string, pipelineName: string, architecture: lambda.Architecture, withKey = false) {
    super(scope, id, { synthesizer: withoutBootstrapCheck(), description: 'ecr-scan-verifier: hears of pushes and scans, remembers verdicts' });
    const encryptionKey = withKey ? new kms.Key(this, 'Key', { removalPolicy: RemovalPolicy.DESTROY }) : undefined;
    const alertTopic = new sns.Topic(this, 'Alerts', { masterKey: encryptionKey });
    const pipeline = new EcrScanPipeline(this, 'Pipeline', {
      pipelineName,
      architecture,
      severityThreshold: Severity.HIGH,
      alertTopic,
      alertOn: AlertOn.DEPLOYED,
      // Whoever walks through the registry at its own time is in the way of a story told step by step; the other pipeline has it.
      backfill: withKey,
      encryptionKey,
      removalPolicy: RemovalPolicy.DESTROY, // a demo leaves nothing behind
    });

    new CfnOutput(this, 'PipelineName', { value: pipeline.pipelineName });
    new CfnOutput(this, 'AlertTopicArn', { value: alertTopic.topicArn });
    new CfnOutput(this, 'OnDeployFunctionArn', { value: pipeline.onDeployFunctionArn });
    for (const lane of ['Push', 'Scan', 'Findings']) {
      for (const kind of ['Queue', 'DeadLetters']) {
        const queue = pipeline.node.findChild(`${lane}${kind}`) as sqs.Queue;
        new CfnOutput(this, `${lane}${kind}Url`, { value: queue.queueUrl });
      }
    }
    const failures = pipeline.node.findChild('OnDeployFailures') as sqs.Queue;
    new CfnOutput(this, 'OnDeployFailuresUrl', { value: failures.queueUrl });
    addEnvironment(pipeline, this.node.tryGetContext('functionEnv'));
  }
}

class GateStack extends Stack {
  constructor(scope: Construct, id: string, pipelineName: string) {
    super(scope, id, { synthesizer: withoutBootstrapCheck(), description: 'ecr-scan-verifier: one gate, and a parameter that it holds back' });
    const parameter = (name: string, description: string, value?: string, allowedValues?: string[]): CfnParameter =>
      new CfnParameter(this, name, { description, default: value, allowedValues });
    const yesNo = ['true', 'false'];

    const repositoryName = parameter('RepositoryName', 'The repository that holds the image');
    const imageTag = parameter('ImageTag', 'A tag, or a digest (sha256:...)');

    const released = new ssm.StringParameter(this, 'Released', {
      description: 'Stands for the service that runs the image: written only after the gate has let it through',
      stringValue: `${repositoryName.valueAsString}:${imageTag.valueAsString}`,
    });
    const verifier = new EcrScanVerifier(this, 'Verifier', {
      repository: ecr.Repository.fromRepositoryName(this, 'Repository', repositoryName.valueAsString),
      imageTag: imageTag.valueAsString,
      scanConfig: ScanConfig.basic(),
      severityThreshold: Severity.HIGH,
      pipeline: EcrScanPipeline.fromName(this, 'Pipeline', pipelineName),
      blockConstructs: [released],
    });

    // An app decides these when it is written. Here one template serves every story, so they are parameters.
    const gate = verifier.node.findChild(`Gate-${pipelineName}`).node.defaultChild as CfnResource;
    const overridden = {
      scanType: parameter('ScanType', 'Whose findings decide', 'BASIC', ['BASIC', 'ENHANCED', 'SIGNATURE_ONLY']),
      startScan: parameter('StartScan', 'Ask ECR for a scan of an image that has none (false with ENHANCED)', 'true', yesNo),
      severityThreshold: parameter('SeverityThreshold', 'Blocks at or above', 'HIGH'),
      failOnVulnerability: parameter('FailOnVulnerability', 'Fail the deployment when findings block', 'true', yesNo),
      suppressErrorOnRollback: parameter('SuppressErrorOnRollback', 'Answer a rollback with success', 'true', yesNo),
      pollingTimeoutSeconds: parameter('PollingTimeoutSeconds', 'How long to wait for the scan', '840'),
    };
    for (const [property, value] of Object.entries(overridden)) {
      gate.addPropertyOverride(property, value.valueAsString);
    }
    // Text rather than a list parameter: an empty one would arrive as a list of one empty text.
    const ignoreFindings = parameter('IgnoreFindings', 'CVE ids or finding ARNs that pass, separated by commas', '').valueAsString;
    const ignoresNothing = new CfnCondition(this, 'IgnoresNothing', { expression: Fn.conditionEquals(ignoreFindings, '') });
    gate.addPropertyOverride('ignoreFindings', Fn.conditionIf(ignoresNothing.logicalId, [], Fn.split(',', ignoreFindings)));
    // What is as usual is left out, as the construct does.
    const unlessUsual = (name: string, usual: string, given: CfnParameter, value: unknown = given.valueAsString): void => {
      const isUsual = new CfnCondition(this, `${given.node.id}IsTheUsual`, { expression: Fn.conditionEquals(given.valueAsString, usual) });
      gate.addPropertyOverride(name, Fn.conditionIf(isUsual.logicalId, Aws.NO_VALUE, value));
    };
    const onUnscanned = parameter('OnUnscanned', 'What becomes of an image that cannot be scanned', 'block', ['block', 'warn', 'allow']);
    unlessUsual('onUnscanned', 'block', onUnscanned);
    const platforms = parameter('Platforms', 'The platforms of the image that count, separated by commas; all if empty', '');
    unlessUsual('platforms', '', platforms, Fn.split(',', platforms.valueAsString));
    unlessUsual('maxScanAgeSeconds', '', parameter('MaxScanAgeSeconds', 'How old a scan may be; the usual limit if empty', ''));
    // One signer, or none: a story gives one of the three.
    const failOnUnsigned = parameter('FailOnUnsigned', 'Refuse an image that is not signed so', 'true', yesNo).valueAsString;
    const profiles = parameter('SigningProfiles', 'The signing profiles whose signatures count (Notation), separated by commas', '');
    const roots = parameter('TrustedRoot', "The root that counts in the place of AWS Signer's, in PEM (with SigningProfiles)", '').valueAsString;
    const knowsRoot = new CfnCondition(this, 'KnowsRoot', { expression: Fn.conditionNot(Fn.conditionEquals(roots, '')) });
    const trustedRoots = Fn.conditionIf(knowsRoot.logicalId, [roots], Aws.NO_VALUE);
    const key = parameter('SigningKeyArn', 'The key in KMS whose signatures count (Cosign)', '');
    const publicKey = parameter('SigningPublicKey', 'The public key whose signatures count (Cosign), in PEM', '');
    const signers: [CfnParameter, object][] = [
      [profiles, { type: 'NOTATION', trustedIdentities: Fn.split(',', profiles.valueAsString), trustedRoots, failOnUnsigned }],
      [key, { type: 'COSIGN', kmsKeyArn: key.valueAsString, failOnUnsigned }],
      [publicKey, { type: 'COSIGN', publicKey: publicKey.valueAsString, failOnUnsigned }],
    ];
    const chosen = signers.reduceRight<unknown>((otherwise, [given, signer]) => {
      const isGiven = new CfnCondition(this, `By${given.node.id}`, { expression: Fn.conditionNot(Fn.conditionEquals(given.valueAsString, '')) });
      return Fn.conditionIf(isGiven.logicalId, signer, otherwise);
    }, Aws.NO_VALUE);
    gate.addPropertyOverride('signatureVerification', chosen);
    const serviceTimeout = new CfnParameter(this, 'ServiceTimeout', {
      type: 'Number',
      description: 'How long CloudFormation waits for the answer, in seconds',
      default: 960,
    });
    gate.addPropertyOverride('ServiceTimeout', serviceTimeout.valueAsNumber);

    for (const attribute of ['Verdict', 'ImageDigest', 'ImageUri']) {
      new CfnOutput(this, attribute, { value: Fn.getAtt(gate.logicalId, attribute).toString() });
    }
    new CfnOutput(this, 'ReleasedParameter', { value: released.parameterName });
  }
}

/** Three gates for one image, each with a topic, and each with another place for its logs; the last one with an SBOM. */
class OutputsStack extends Stack {
  constructor(scope: Construct, id: string, pipelineName: string) {
    super(scope, id, { synthesizer: withoutBootstrapCheck(), description: 'ecr-scan-verifier: gates that write logs, an SBOM and messages' });
    const repositoryName = new CfnParameter(this, 'RepositoryName', { description: 'The repository that holds the image' });
    const imageTag = new CfnParameter(this, 'ImageTag', { description: 'A tag, or a digest (sha256:...)' });
    const destroyed = { removalPolicy: RemovalPolicy.DESTROY };
    const bucket = (name: string, more: s3.BucketProps = {}): s3.Bucket =>
      new s3.Bucket(this, name, { bucketName: `${name.toLowerCase()}-${Aws.ACCOUNT_ID}`, ...destroyed, ...more });
    const logGroup = new logs.LogGroup(this, 'ScanLogs', { logGroupName: '/scans', ...destroyed });
    const encryptionKey = new kms.Key(this, 'Key', destroyed);
    const [logBucket, sboms] = [bucket('Logs'), bucket('Sboms', { encryptionKey, encryption: s3.BucketEncryption.KMS })];
    const topic = new sns.Topic(this, 'Vulnerabilities');
    const heard = new sqs.Queue(this, 'Heard');
    topic.addSubscription(new subscriptions.SqsSubscription(heard, { rawMessageDelivery: false }));
    const gate = (name: string, scanLogsOutput?: ScanLogsOutput, sbomOutput?: SbomOutput): EcrScanVerifier =>
      new EcrScanVerifier(this, name, {
        repository: ecr.Repository.fromRepositoryName(this, `${name}Repository`, repositoryName.valueAsString),
        imageTag: imageTag.valueAsString,
        scanConfig: ScanConfig.enhanced({ sbomOutput }),
        failOnVulnerability: false,
        vulnsNotificationTopic: topic,
        scanLogsOutput,
        pipeline: EcrScanPipeline.fromName(this, `${name}Pipeline`, pipelineName),
      });
    const gates = [
      gate('Plain'),
      gate('Streams', ScanLogsOutput.cloudWatchLogs({ logGroup })),
      gate('Objects', ScanLogsOutput.s3({ bucket: logBucket, prefix: 'scans' }), SbomOutput.cycloneDx14({ bucket: sboms, encryptionKey })),
    ];
    new CfnOutput(this, 'Verdict', { value: gates.at(-1)!.imageUri });
    new CfnOutput(this, 'HeardUrl', { value: heard.queueUrl });
  }
}

function addEnvironment(pipeline: EcrScanPipeline, context: unknown): void {
  const variables = (typeof context === 'string' ? JSON.parse(context) : (context ?? {})) as Record<string, string>;
  for (const child of pipeline.node.findAll()) {
    if (child instanceof lambda.CfnFunction) {
      for (const [name, value] of Object.entries(variables)) {
        child.addPropertyOverride(`Environment.Variables.${name}`, String(value));
      }
    }
  }
}

const app = new App();
const pipelineName = String(app.node.tryGetContext('pipelineName') ?? 'demo');
const architecture = app.node.tryGetContext('architecture') === 'arm64' ? lambda.Architecture.ARM_64 : lambda.Architecture.X86_64;
new PipelineStack(app, 'ecr-scan-verifier', pipelineName, architecture);
new PipelineStack(app, 'ecr-scan-verifier-keyed', pipelineName, architecture, true);
new GateStack(app, 'ecr-scan-verifier-gate', pipelineName);
new OutputsStack(app, 'ecr-scan-verifier-outputs', pipelineName);
app.synth();
