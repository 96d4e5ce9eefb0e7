// The pipeline that a stack gets when its gates name none: it belongs to the stack, hears only of the repositories that
// the gates name, and goes with the stack.
import { RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';
import { IEcrScanPipeline } from '../ecr-scan-pipeline';
import { alertsText } from './alerts';
import { functionArn, implicitPipelineName } from './names';
import { createParts } from './parts';
import { policyText } from './policy';
import { stacksArn } from './stacks';
import { NamedRepositories } from './watched';

const ID = 'ImplicitEcrScanPipeline';

// Of each of at most 20 repositories a few images run.
const DAILY_RESCANS = 100;

/** What the gates of a stack share, and what its first gate therefore chooses for all. */
export interface ChosenByTheFirst {
  readonly architecture: lambda.Architecture;
  readonly defaultLogGroup?: logs.ILogGroup;
}

export class ImplicitPipeline extends Construct implements IEcrScanPipeline {
  /** One a stack, made by its first gate. */
  public static of(scope: Construct, chosen: ChosenByTheFirst): ImplicitPipeline {
    const stack = Stack.of(scope);
    const existing = stack.node.tryFindChild(ID) as ImplicitPipeline | undefined;
    return existing ?? new ImplicitPipeline(stack, chosen);
  }

  public readonly pipelineName: string;
  public readonly onDeployFunctionArn: string;
  private readonly repositories: NamedRepositories;
  private readonly whoVerifies: lambda.Function[];

  private constructor(stack: Stack, public readonly chosen: ChosenByTheFirst) {
    super(stack, ID);
    this.pipelineName = implicitPipelineName(stack);
    this.onDeployFunctionArn = functionArn(stack, this.pipelineName, 'on-deploy');
    this.repositories = new NamedRepositories(stack);
    const { functions } = createParts(this, {
      pipelineName: this.pipelineName,
      ...chosen,
      watched: this.repositories,
      policy: policyText(stack, {}), // each gate sends its own; this one only fills the row that a person may look at
      stacksArn: stacksArn(stack, 'own'),
      alerts: alertsText(stack, {}), // the topics of the gates are told
      verdictEvents: false,
      checksAnySignature: false,
      sweepsRegistry: false,
      dailyRescans: DAILY_RESCANS,
      removalPolicy: RemovalPolicy.DESTROY,
      // A bucket that is not empty cannot be deleted, and would keep the stack from being deleted. It stays, unless the
      // stack's creation failed, when it is still empty.
      bucketRemovalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    });
    this.whoVerifies = [functions['on-deploy'], functions['on-scan']];
  }

  public listenTo(repository: ecr.IRepository): void {
    this.repositories.add(repository);
  }

  /** The gates of a stack are known, so their signers' keys are the only ones that are read. */
  public verifySignatures(grants: () => iam.PolicyStatement[]): void {
    this.whoVerifies.forEach((verifier) => grants().forEach((statement) => verifier.addToRolePolicy(statement)));
  }
}
