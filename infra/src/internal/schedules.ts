// The clock of the pipeline: what wakes on-sweep.
import * as events from 'aws-cdk-lib/aws-events';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { Construct } from 'constructs';

export function everyMinute(scope: Construct, sweep: lambda.Function): events.CfnRule {
  return wakes(scope, sweep, 'EveryMinute', {
    description: 'Ends the waits whose time is up',
    scheduleExpression: 'rate(1 minute)',
    kind: 'sweep',
    // The next minute comes anyway, and looks at everything: a late tick has nothing to add. 60 s is the least that
    // EventBridge takes.
    retryPolicy: { maximumRetryAttempts: 0, maximumEventAgeInSeconds: 60 },
  });
}

export function everyDay(scope: Construct, sweep: lambda.Function): events.CfnRule {
  return wakes(scope, sweep, 'EveryDay', {
    description: 'Finds what no event has told of, has deployed images scanned again, warns of exemptions that end',
    // Exemptions end at midnight UTC. Not on the hour, when everybody's schedules run.
    scheduleExpression: 'cron(20 0 * * ? *)',
    kind: 'daily',
    // The next one comes in a day: so this one may insist.
    retryPolicy: { maximumRetryAttempts: 30, maximumEventAgeInSeconds: 3600 },
  });
}

interface Tick {
  readonly description: string;
  readonly scheduleExpression: string;
  readonly kind: string;
  readonly retryPolicy: events.CfnRule.RetryPolicyProperty;
}

function wakes(scope: Construct, sweep: lambda.Function, id: string, { kind, retryPolicy, ...when }: Tick): events.CfnRule {
  const rule = new events.CfnRule(scope, id, {
    ...when,
    targets: [{ id: 'OnSweep', arn: sweep.functionArn, input: JSON.stringify({ v: 1, kind }), retryPolicy }],
  });
  sweep.addPermission(id, { principal: new iam.ServicePrincipal('events.amazonaws.com'), sourceArn: rule.attrArn });
  return rule;
}
