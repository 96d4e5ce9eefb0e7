// Every name that is shared without being passed along: whoever knows a pipeline's name knows its functions and tables.
// They are fixed for ever; stacks, the command line and people's dashboards lean on them.
import { createHash } from 'crypto';
import { ArnFormat, Stack, Token } from 'aws-cdk-lib';

const PREFIX = 'ecr-scan-verifier';

export const DEFAULT_BUS = 'default';

export const FUNCTIONS = ['on-push', 'on-scan', 'on-deploy', 'on-sweep'] as const;
export type FunctionKey = (typeof FUNCTIONS)[number];

export const TABLES = ['verdicts', 'requests', 'deployments'] as const;
export type TableKey = (typeof TABLES)[number];

export function checkPipelineName(name: string): void {
  if (Token.isUnresolved(name)) {
    throw new Error(
      'pipelineName must be known when the app is synthesized: the names of functions and tables are made of it. Pass a plain string instead of a parameter or an attribute.',
    );
  }
  if (!/^[a-z0-9-]{1,32}$/.test(name)) {
    throw new Error(`pipelineName must be 1 to 32 characters out of a-z, 0-9 and '-', got '${name}'.`);
  }
}

export function functionName(pipeline: string, key: FunctionKey): string {
  return `${PREFIX}-${pipeline}-${key}`;
}

export function logGroupName(pipeline: string, key: FunctionKey): string {
  return `/aws/lambda/${functionName(pipeline, key)}`;
}

export function tableName(pipeline: string, key: TableKey): string {
  return `${PREFIX}-${pipeline}-${key}`;
}

export function functionArn(stack: Stack, pipeline: string, key: FunctionKey): string {
  return stack.formatArn({
    service: 'lambda',
    resource: 'function',
    resourceName: functionName(pipeline, key),
    arnFormat: ArnFormat.COLON_RESOURCE_NAME,
  });
}

/**
 * The path of the roles that write the outputs of gates: the one thing that a pipeline and the stacks of its gates agree on.
 */
export const OUTPUTS_PATH = `/${PREFIX}/`;

/**
 * The name of on-scan's role, so that stacks which only know the pipeline's name can let it write their outputs.
 *
 * Roles are the account's, not the region's, and may take 64 characters: with a pipeline's 32 and a region's 15 there is no
 * room for the usual prefix.
 */
export function roleName(stack: Stack, pipeline: string): string {
  return `ecr-on-scan-${pipeline}-${stack.region}`;
}

export function roleArn(stack: Stack, pipeline: string): string {
  return stack.formatArn({ service: 'iam', region: '', resource: 'role', resourceName: roleName(stack, pipeline) });
}

/** Every role that writes outputs. */
export function outputsRolesArn(stack: Stack): string {
  return stack.formatArn({ service: 'iam', region: '', resource: 'role', resourceName: `${PREFIX}/*` });
}

/** Every KMS key: gates may trust a key of another account or region. */
export function anyKeyArn(stack: Stack): string {
  return stack.formatArn({ service: 'kms', region: '*', account: '*', resource: 'key', resourceName: '*' });
}

/** The bus that AWS's own events come by, and where verdicts are announced. */
export function defaultBusArn(stack: Stack): string {
  return stack.formatArn({ service: 'events', resource: 'event-bus', resourceName: DEFAULT_BUS });
}

/** The ARN made of the name, where a reference would close a circle (the table's own policy names the table). */
export function tableArn(stack: Stack, pipeline: string, key: TableKey): string {
  return stack.formatArn({ service: 'dynamodb', resource: 'table', resourceName: tableName(pipeline, key) });
}

export function alarmName(pipeline: string, what: string): string {
  return `${PREFIX}-${pipeline}-${what}`;
}

export function dashboardName(pipeline: string): string {
  return `${PREFIX}-${pipeline}`;
}

/** All log groups of a pipeline, for the policy of a key that encrypts them. */
export function logGroupArns(stack: Stack, pipeline: string): string {
  return stack.formatArn({
    service: 'logs',
    resource: 'log-group',
    resourceName: `/aws/lambda/${PREFIX}-${pipeline}-*`,
    arnFormat: ArnFormat.COLON_RESOURCE_NAME,
  });
}

/**
 * A name for the pipeline that a stack gets when its gates name none.
 *
 * People recognise the stack in its first half; the hash in the second keeps two stacks apart whose names
 * begin alike, and nested stacks from their parents.
 */
export function implicitPipelineName(stack: Stack): string {
  const top = topStack(stack).stackName;
  const readable = top.toLowerCase().replace(/[^a-z0-9-]/g, '-').slice(0, 20);
  const unique = createHash('sha256').update(`${top}/${stack.node.path}`).digest('hex').slice(0, 8);
  return `${readable}-${unique}`;
}

function topStack(stack: Stack): Stack {
  return stack.nestedStackParent ? topStack(stack.nestedStackParent) : stack;
}
