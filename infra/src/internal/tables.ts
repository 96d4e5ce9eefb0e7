// The three tables. Keys and indexes cannot be changed later without moving the data.
import { RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import { Construct } from 'constructs';
import { keyUse } from './encryption';
import { TableKey, tableArn, tableName } from './names';

export const OPEN_BY_DUE = 'open-by-due';
export const BY_DIGEST = 'by-digest';
export const LIVE = 'live';
export const HEADS_BY_REPOSITORY = 'heads-by-repository';
// People read these two: what was decided about an image, and in a stack.
const DECISIONS_BY_DIGEST = 'decisions-by-digest';
const DECISIONS_BY_STACK = 'decisions-by-stack';

export type Tables = Record<TableKey, dynamodb.Table>;

export interface TablesProps {
  readonly pipelineName: string;
  readonly writers: iam.IRole[];
  readonly breakGlassRole?: iam.IRole;
  readonly encryptionKey?: kms.IKey;
  readonly removalPolicy: RemovalPolicy;
}

export function createTables(scope: Construct, props: TablesProps): Tables {
  const string = (name: string): dynamodb.Attribute => ({ name, type: dynamodb.AttributeType.STRING });
  const table = (
    id: string,
    key: TableKey,
    own: Pick<dynamodb.TableProps, 'partitionKey' | 'sortKey' | 'pointInTimeRecoverySpecification' | 'resourcePolicy'>,
  ): dynamodb.Table =>
    new dynamodb.Table(scope, id, {
      tableName: tableName(props.pipelineName, key),
      billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
      timeToLiveAttribute: 'ttl',
      encryption: props.encryptionKey ? dynamodb.TableEncryption.CUSTOMER_MANAGED : dynamodb.TableEncryption.AWS_MANAGED,
      encryptionKey: props.encryptionKey,
      removalPolicy: props.removalPolicy,
      ...own,
    });
  const restorable = { pointInTimeRecoveryEnabled: true };

  const verdicts = table('Verdicts', 'verdicts', {
    partitionKey: string('digest'),
    sortKey: string('item'),
    pointInTimeRecoverySpecification: restorable,
    resourcePolicy: onlyWrittenBy(scope, props),
  });
  verdicts.addGlobalSecondaryIndex({
    indexName: HEADS_BY_REPOSITORY,
    partitionKey: string('repository'), // heads alone have it; facts stay out
    sortKey: string('digest'),
    // What the sweep compares with the registry is which images are known; a head is up to 4 KB, and read only where it matters.
    projectionType: dynamodb.ProjectionType.KEYS_ONLY,
  });

  // Open requests live for an hour at most and hold a secret (where the answer goes): nothing to restore, and better no backup.
  const requests = table('Requests', 'requests', { partitionKey: string('key'), sortKey: string('sort') });
  requests.addGlobalSecondaryIndex({
    indexName: OPEN_BY_DUE,
    partitionKey: string('open'),
    sortKey: { name: 'due', type: dynamodb.AttributeType.NUMBER }, // epoch milliseconds
    // Never the ResponseURL: people may read this index to see who waits.
    projectionType: dynamodb.ProjectionType.INCLUDE,
    nonKeyAttributes: ['digest', 'repository', 'stack', 'logical_id', 'since', 'state', 'lease_until', 'request_id', 'image'],
  });

  const deployments = table('Deployments', 'deployments', {
    partitionKey: string('stack'),
    sortKey: string('row'),
    pointInTimeRecoverySpecification: restorable,
    resourcePolicy: onlyBrokenBy(scope, props),
  });
  if (props.breakGlassRole && props.encryptionKey) {
    props.breakGlassRole.addToPrincipalPolicy(keyUse(Stack.of(scope), props.encryptionKey, ['dynamodb']));
  }
  props.breakGlassRole?.addToPrincipalPolicy(
    new iam.PolicyStatement({
      sid: 'BreakTheGlass',
      actions: ['dynamodb:PutItem'],
      resources: [deployments.tableArn],
      conditions: { 'ForAllValues:StringLike': { 'dynamodb:LeadingKeys': [BROKEN_GLASS] } },
    }),
  );
  deployments.addGlobalSecondaryIndex({
    indexName: BY_DIGEST,
    partitionKey: string('digest'),
    sortKey: string('stack'),
    // Everything: whoever asks "where does this image run" goes on to the row's state, policy and audience,
    // and a read of each row afterwards would cost more than the copy.
    projectionType: dynamodb.ProjectionType.ALL,
  });
  const byTwo = (indexName: string, partition: string, sort: string): void =>
    deployments.addGlobalSecondaryIndex({
      indexName,
      partitionKey: string(partition),
      sortKey: string(sort),
      projectionType: dynamodb.ProjectionType.ALL, // for the same reason
    });
  // Sparse: `live` is a constant that a row has as long as its image runs, and decisions alone have the other two.
  byTwo(LIVE, 'live', 'digest');
  byTwo(DECISIONS_BY_DIGEST, 'decided_digest', 'row');
  byTwo(DECISIONS_BY_STACK, 'stack_name', 'row');

  return { verdicts, requests, deployments };
}

const BROKEN_GLASS = 'break-glass#*';

// A broken glass lets a bad image through, so only the role that was named for it breaks one. The functions only use it up.
function onlyBrokenBy(scope: Construct, props: TablesProps): iam.PolicyDocument {
  const { breakGlassRole, writers } = props;
  const deny = (sid: string, actions: string[], but: iam.IRole[]): iam.PolicyStatement =>
    new iam.PolicyStatement({
      sid,
      effect: iam.Effect.DENY,
      principals: [new iam.AnyPrincipal()],
      actions,
      resources: [tableArn(Stack.of(scope), props.pipelineName, 'deployments')],
      conditions: {
        'ForAnyValue:StringLike': { 'dynamodb:LeadingKeys': [BROKEN_GLASS] },
        ...(but.length > 0 && { ArnNotEquals: { 'aws:PrincipalArn': but.map((role) => role.roleArn) } }),
      },
    });
  return new iam.PolicyDocument({
    statements: [
      deny(
        'OnlyTheNamedRoleBreaksTheGlass',
        ['dynamodb:BatchWriteItem', 'dynamodb:PartiQLInsert', 'dynamodb:PutItem'],
        breakGlassRole ? [breakGlassRole] : [],
      ),
      // An update of a row that is not there makes one.
      deny('OnlyTheFunctionsUseItUp', ['dynamodb:DeleteItem', 'dynamodb:PartiQLDelete', 'dynamodb:PartiQLUpdate', 'dynamodb:UpdateItem'], writers),
    ],
  });
}

// A verdict lets deployments through, so nobody writes one by hand: not even an administrator, as long as this policy stands.
function onlyWrittenBy(scope: Construct, props: TablesProps): iam.PolicyDocument {
  return new iam.PolicyDocument({
    statements: [
      new iam.PolicyStatement({
        sid: 'OnlyThePipelineWritesVerdicts',
        effect: iam.Effect.DENY,
        principals: [new iam.AnyPrincipal()],
        actions: [
          'dynamodb:BatchWriteItem',
          'dynamodb:DeleteItem',
          'dynamodb:PartiQLDelete',
          'dynamodb:PartiQLInsert',
          'dynamodb:PartiQLUpdate',
          'dynamodb:PutItem',
          'dynamodb:UpdateItem',
        ],
        resources: [tableArn(Stack.of(scope), props.pipelineName, 'verdicts')],
        conditions: { ArnNotEquals: { 'aws:PrincipalArn': props.writers.map((role) => role.roleArn) } },
      }),
    ],
  });
}
