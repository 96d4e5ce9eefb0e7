// One page that tells how a pipeline does: what it decides, how long deployments wait, what it tells, how it feels.
import { Duration } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import { Construct } from 'constructs';
import { EVERY, decisionsByVerdict, metric } from './metrics';
import { dashboardName } from './names';
import { Parts } from './parts';

export function createDashboard(scope: Construct, pipeline: string, parts: Parts): void {
  const sums = (...names: string[]): cloudwatch.IMetric[] => names.map((name) => metric(pipeline, name, 'Sum').with({ label: name }));
  const lanes = Object.entries(parts.lanes);
  const functions = Object.entries(parts.functions);
  const each = { period: EVERY };

  const rows = [
    [graph('Decisions by verdict', 24, [decisionsByVerdict(pipeline)], true)],
    [
      graph(
        'Seconds that deployments waited',
        12,
        ['p50', 'p95', 'Maximum'].map((statistic) => metric(pipeline, 'GateWaitSeconds', statistic).with({ label: statistic })),
      ),
      graph('Deployments that began to wait', 12, sums('ParkedRequests')),
    ],
    [
      graph('Verdicts that changed, and who was told', 12, sums('VerdictChanged', 'AlertsSent', 'ExemptionsEnding')),
      graph('Glasses broken, and outputs that failed', 12, sums('BreakGlassUsed', 'OutputsFailed')),
    ],
    [
      graph('Seconds from event to handling', 8, [metric(pipeline, 'EventLagSeconds', 'Maximum').with({ label: 'the oldest' })]),
      graph('What was ignored, overdue, repaired', 8, sums('EventsIgnored', 'OverdueRequests', 'SweepRepaired')),
      graph('Dead letters', 8, [
        ...lanes.map(([lane, { deadLetters }]) =>
          deadLetters.metricApproximateNumberOfMessagesVisible({ ...each, statistic: 'Maximum', label: lane }),
        ),
        parts.failures.metricApproximateNumberOfMessagesVisible({ ...each, statistic: 'Maximum', label: "on-deploy's failures" }),
      ]),
    ],
    [
      graph('Errors of the functions', 12, functions.map(([key, of]) => of.metricErrors({ ...each, statistic: 'Sum', label: key }))),
      graph('Milliseconds that the functions take, p95', 12, functions.map(([key, of]) => of.metricDuration({ ...each, statistic: 'p95', label: key }))),
    ],
  ];
  new cloudwatch.Dashboard(scope, 'Dashboard', { dashboardName: dashboardName(pipeline), defaultInterval: Duration.days(1), widgets: rows });
}

function graph(title: string, width: number, left: cloudwatch.IMetric[], stacked = false): cloudwatch.GraphWidget {
  return new cloudwatch.GraphWidget({ title, width, height: 6, left, stacked, leftYAxis: { min: 0, showUnits: false } });
}
