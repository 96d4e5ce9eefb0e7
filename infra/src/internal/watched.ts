// Which repositories a pipeline listens to: all of its account and region, or those that its gates name.
import { Lazy, Stack } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';

/** What the rules match on, and what the roles may read. */
export interface Watched {
  /** ARNs for IAM. */
  readonly arns: string[];
  /** `detail` of ECR's own events, by the repository's name. */
  readonly ecrDetail?: unknown;
  /** `detail` of `Inspector2 Scan`, where `repository-name` is an ARN. */
  readonly inspectorScanDetail: unknown;
  /** `resources` of `Inspector2 Finding`: the ARN of an image. */
  readonly findingResources: unknown;
}

export function everyRepository(stack: Stack): Watched {
  // Inspector reports on instances and functions too; what is not about a registry is left on the bus.
  const registry = [{ prefix: `arn:${stack.partition}:ecr:` }];
  return {
    arns: [stack.formatArn({ service: 'ecr', resource: 'repository', resourceName: '*' })],
    inspectorScanDetail: { 'repository-name': registry },
    findingResources: registry,
  };
}

// EventBridge takes patterns of 2,048 characters; an entry by image ARN needs about 100.
const MOST_REPOSITORIES = 20;

/** The repositories of a stack's gates. The list is read when the template is written, after the last gate has joined. */
export class NamedRepositories implements Watched {
  private readonly repositories = new Map<string, ecr.IRepository>();

  public readonly arns = Lazy.list({ produce: () => this.map((r) => r.repositoryArn) });
  public readonly ecrDetail = { 'repository-name': Lazy.any({ produce: () => this.map((r) => r.repositoryName) }) };
  public readonly inspectorScanDetail = { 'repository-name': Lazy.any({ produce: () => this.map((r) => r.repositoryArn) }) };
  // Up to the digest, or `team/web` would also hear of `team/web-app`.
  public readonly findingResources = Lazy.any({ produce: () => this.map((r) => ({ prefix: `${r.repositoryArn}/sha256:` })) });

  constructor(private readonly stack: Stack) {}

  public add(repository: ecr.IRepository): void {
    // Two imports of one repository are two objects and two tokens, but one text.
    this.repositories.set(JSON.stringify(this.stack.resolve(repository.repositoryArn)), repository);
    if (this.repositories.size > MOST_REPOSITORIES) {
      throw new Error(
        `The gates of stack '${this.stack.stackName}' name more than ${MOST_REPOSITORIES} repositories, too many for one event rule. Make one EcrScanPipeline for the account and region, which listens to all of them, and give it to the verifiers as 'pipeline'.`,
      );
    }
  }

  private map<T>(of: (repository: ecr.IRepository) => T): T[] {
    return [...this.repositories.values()].map(of);
  }
}
