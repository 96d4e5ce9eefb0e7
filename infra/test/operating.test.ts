// What watches a pipeline: alarms and a dashboard, both on request.
import * as assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Duration, Stack } from 'aws-cdk-lib';
import * as sns from 'aws-cdk-lib/aws-sns';
import { AlarmOptions, EcrScanPipeline, EcrScanPipelineProps } from '../src';
import { ACCOUNT, REGION, find, findAll, newStack, resources, warnings } from './support';

function pipelineWith(own: Partial<EcrScanPipelineProps>, stack = newStack()): Stack {
  new EcrScanPipeline(stack, 'Pipeline', { pipelineName: 'demo', ...own });
  return stack;
}

const watched = resources(pipelineWith({ alarms: {}, dashboard: true }));

test('nothing is made that nobody asked for, as it costs', () => {
  assert.deepEqual(resources(pipelineWith({})).filter((r) => r.Type.startsWith('AWS::CloudWatch::')), []);
  assert.deepEqual(resources(pipelineWith({ dashboard: false })).filter((r) => r.Type.startsWith('AWS::CloudWatch::')), []);
});

test('nothing waits for what watches', () => {
  const watching = watched.filter((r) => r.Type.startsWith('AWS::CloudWatch::')).map((r) => r.id);
  assert.ok(watching.length > 1);
  assert.deepEqual(watched.filter((r) => r.DependsOn.some((id) => watching.includes(id))), []);
});

describe('the alarms', () => {
  const ours = { Namespace: 'EcrScanVerifier', Dimensions: ['Pipeline=demo'] };
  const queue = (id: string): object => ({ Namespace: 'AWS/SQS', Dimensions: [`QueueName={Pipeline${id}.QueueName}`] });
  const lambda = (id: string): object => ({ Namespace: 'AWS/Lambda', Dimensions: [`FunctionName={Pipeline${id}}`] });
  const deadLetters = (lane: string): object => ({ ...queue(`${lane}DeadLetters`), MetricName: 'ApproximateNumberOfMessagesVisible', Statistic: 'Maximum' });
  const gate = { ...lambda('OnDeploy'), Statistic: 'Sum' };
  const sweep = { ...lambda('OnSweep'), Statistic: 'Sum' };

  // [above, seconds of a period, in how many, out of how many]
  const expected: Record<string, [object, [number, number, number, number], string]> = {
    'dead-letters-push': [deadLetters('Push'), [0, 300, 1, 1], 'dead-letters'],
    'dead-letters-scan': [deadLetters('Scan'), [0, 300, 1, 1], 'dead-letters'],
    'dead-letters-findings': [deadLetters('Findings'), [0, 300, 1, 1], 'dead-letters'],
    'failures-unanswered': [
      { ...queue('OnDeployFailures'), MetricName: 'ApproximateAgeOfOldestMessage', Statistic: 'Maximum' },
      [300, 60, 1, 1],
      'dead-letters',
    ],
    'event-lag': [{ ...ours, MetricName: 'EventLagSeconds', Statistic: 'Maximum' }, [600, 300, 1, 1], 'event-lag'],
    'overdue-requests': [{ ...ours, MetricName: 'OverdueRequests', Statistic: 'Maximum' }, [0, 60, 3, 3], 'overdue-requests'],
    'gate-errors': [{ ...gate, MetricName: 'Errors' }, [0, 300, 2, 3], 'gate-errors'],
    'gate-throttles': [{ ...gate, MetricName: 'Throttles' }, [0, 300, 2, 3], 'gate-errors'],
    'sweep-errors': [{ ...sweep, MetricName: 'Errors' }, [0, 60, 5, 5], 'sweep-errors'],
    'sweep-throttles': [{ ...sweep, MetricName: 'Throttles' }, [0, 60, 5, 5], 'sweep-errors'],
  };

  const alarms = new Map(findAll(watched, 'AWS::CloudWatch::Alarm').map(({ Properties }) => [Properties.AlarmName, Properties]));

  test('are these, each of them named after the pipeline', () => {
    assert.deepEqual([...alarms.keys()].sort(), Object.keys(expected).map((name) => `ecr-scan-verifier-demo-${name}`).sort());
  });

  for (const [name, [metric, [above, period, periods, outOf], section]] of Object.entries(expected)) {
    test(`${name}: above ${above}, in ${periods} of ${outOf} times ${period} s; it says where the runbook goes on`, () => {
      const { AlarmName, AlarmDescription, Dimensions, ...rest } = alarms.get(`ecr-scan-verifier-demo-${name}`);
      assert.match(AlarmDescription, new RegExp(`^\\w.+\\. What to do: docs/RUNBOOK\\.md#${section}$`));
      assert.deepEqual({ ...rest, Dimensions: Dimensions.map((d: any) => `${d.Name}=${d.Value}`) }, {
        ...metric,
        Threshold: above,
        Period: period,
        DatapointsToAlarm: periods,
        EvaluationPeriods: outOf,
        ComparisonOperator: 'GreaterThanThreshold',
        TreatMissingData: 'notBreaching',
      });
    });
  }

  test('tell the topic that was named, all of them', () => {
    const arn = `arn:aws:sns:${REGION}:${ACCOUNT}:operators`;
    const stack = newStack();
    const told = findAll(resources(pipelineWith({ alarms: { topic: sns.Topic.fromTopicArn(stack, 'Topic', arn) } }, stack)), 'AWS::CloudWatch::Alarm');
    assert.equal(told.length, Object.keys(expected).length);
    for (const { Properties } of told) {
      assert.deepEqual(Properties.AlarmActions, [arn]);
    }
  });

  const lagOf = (alarms: AlarmOptions): number =>
    find(resources(pipelineWith({ alarms })), 'AWS::CloudWatch::Alarm', 'EventLag').Properties.Threshold;

  for (const [eventLag, seconds] of [[Duration.minutes(1), 60], [Duration.hours(2), 7200], [Duration.days(1), 86_400]] as const) {
    test(`events may be ${seconds} s late, if so chosen`, () => {
      assert.equal(lagOf({ eventLag }), seconds);
    });
  }

  for (const eventLag of [Duration.seconds(59), Duration.days(2)]) {
    test(`a lag of ${eventLag.toHumanString()} is refused`, () => {
      assert.throws(() => lagOf({ eventLag }), /^Error: alarms\.eventLag must be between 1 minute and 1 day, got /);
    });
  }
});

describe('the dashboard', () => {
  const { DashboardName, DashboardBody } = find(watched, 'AWS::CloudWatch::Dashboard').Properties;
  const widgets = JSON.parse(DashboardBody).widgets.filter((widget: any) => widget.type === 'metric');

  test('has the name of the pipeline', () => {
    assert.equal(DashboardName, 'ecr-scan-verifier-demo');
  });

  test('searches for the verdicts, so that a new one shows too', () => {
    const [{ expression }] = widgets[0].properties.metrics[0];
    assert.equal(expression, `SEARCH('{EcrScanVerifier,Pipeline,Verdict} MetricName="GateDecisions" Pipeline="demo"', 'Sum', 300)`);
    assert.deepEqual(warnings(pipelineWith({ dashboard: true })), []);
  });

  test('shows every number that the functions write, of this pipeline alone', () => {
    const own = widgets.flatMap((widget: any) => widget.properties.metrics).filter(([namespace]: any) => namespace === 'EcrScanVerifier');
    assert.deepEqual([...new Set(own.map((metric: any) => metric[1]))].sort(), [
      ...['AlertsSent', 'BreakGlassUsed', 'EventLagSeconds', 'EventsIgnored', 'ExemptionsEnding', 'GateWaitSeconds'],
      ...['OutputsFailed', 'OverdueRequests', 'ParkedRequests', 'SweepRepaired', 'VerdictChanged'],
    ]);
    for (const [, , dimension, value] of own) {
      assert.deepEqual([dimension, value], ['Pipeline', 'demo']);
    }
  });

  test('shows the four functions and the four queues in which something may be left', () => {
    const shown = (namespace: string, name: string): string[] =>
      widgets.flatMap((w: any) => w.properties.metrics).filter((m: any) => m[0] === namespace && m[1] === name).map((m: any) => m[3]);
    const functions = ['OnPush', 'OnScan', 'OnDeploy', 'OnSweep'].map((id) => `{Pipeline${id}}`);
    assert.deepEqual(shown('AWS/Lambda', 'Errors'), functions);
    assert.deepEqual(shown('AWS/Lambda', 'Duration'), functions);
    assert.deepEqual(
      shown('AWS/SQS', 'ApproximateNumberOfMessagesVisible'),
      ['PushDeadLetters', 'ScanDeadLetters', 'FindingsDeadLetters', 'OnDeployFailures'].map((id) => `{Pipeline${id}.QueueName}`),
    );
  });

  test('fills its rows, and nothing sticks out', () => {
    const rows = new Map<number, number>();
    for (const { y, width } of widgets) {
      rows.set(y, (rows.get(y) ?? 0) + width);
    }
    assert.deepEqual([...rows.values()], Array(5).fill(24));
  });
});
