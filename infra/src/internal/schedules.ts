// The clock of the pipeline: what wakes on-sweep.
import * as events from 'aws-cdk-lib/aws-events';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { Construct } from 'constructs';

export function everyMinute(scope: Construct, sweep: lambda.Function): events.CfnRule {
  const id = 'EveryMinute';
  const rule = new events.CfnRule(scope, id, {
    description: 'Ends the waits whose time is up',
    scheduleExpression: 'rate(1 minute)',
    targets: [
      {
        id: 'OnSweep',
        arn: sweep.functionArn,
        input: JSON.stringify({ v: 1, kind: 'sweep' }),
        // The next minute comes anyway, and looks at everything: a late tick has nothing to add. 60 s is the least that
        // EventBridge takes.
        retryPolicy: { maximumRetryAttempts: 0, maximumEventAgeInSeconds: 60 },
      },
    ],
  });
  sweep.addPermission(id, { principal: new iam.ServicePrincipal('events.amazonaws.com'), sourceArn: rule.attrArn });
  return rule;
}
