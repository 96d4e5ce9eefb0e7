// The numbers that the functions write into their logs (src/handlers/metrics.rs), for alarms and the dashboard.
import { Duration } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';

const NAMESPACE = 'EcrScanVerifier';

export const EVERY = Duration.minutes(5);

export function metric(pipeline: string, metricName: string, statistic: string, period = EVERY): cloudwatch.Metric {
  return new cloudwatch.Metric({ namespace: NAMESPACE, metricName, dimensionsMap: { Pipeline: pipeline }, statistic, period });
}

/** Decisions, a line for each verdict: those that a later version brings too, so they are searched for. */
export function decisionsByVerdict(pipeline: string): cloudwatch.MathExpression {
  const wanted = `{${NAMESPACE},Pipeline,Verdict} MetricName="GateDecisions" Pipeline="${pipeline}"`;
  return new cloudwatch.MathExpression({
    expression: `SEARCH('${wanted}', 'Sum', ${EVERY.toSeconds()})`,
    label: "${PROP('Dim.Verdict')}",
    usingMetrics: {},
    period: EVERY,
  });
}
