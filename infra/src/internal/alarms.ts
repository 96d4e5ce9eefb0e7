// Whom to wake, and when. Each alarm says in its description where the runbook goes on.
import { Duration } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import * as actions from 'aws-cdk-lib/aws-cloudwatch-actions';
import { Construct } from 'constructs';
import { AlarmOptions } from '../alarm-options';
import { EVERY, metric } from './metrics';
import { alarmName } from './names';
import { Parts } from './parts';

const DEFAULT_LAG = Duration.minutes(10);
const SHORTEST_LAG = Duration.minutes(1);
const LONGEST_LAG = Duration.days(1);

export function checkAlarms({ eventLag }: AlarmOptions = {}): void {
  if (eventLag === undefined || eventLag.isUnresolved()) {
    return;
  }
  const seconds = eventLag.toSeconds({ integral: false });
  if (seconds < SHORTEST_LAG.toSeconds() || seconds > LONGEST_LAG.toSeconds()) {
    throw new Error(
      `alarms.eventLag must be between 1 minute and 1 day, got ${eventLag.toHumanString()}: EventBridge gives up on an event after a day. Leave it out for 10 minutes.`,
    );
  }
}

/** A section of docs/RUNBOOK.md. */
type Section = 'dead-letters' | 'event-lag' | 'gate-errors' | 'overdue-requests' | 'sweep-errors';

interface When {
  readonly of: cloudwatch.IMetric;
  readonly above: number;
  /** In how many periods, one after the other unless `outOf` says that gaps are allowed. */
  readonly periods?: number;
  readonly outOf?: number;
}

export function createAlarms(scope: Construct, pipeline: string, parts: Parts, options: AlarmOptions): void {
  const within = new Construct(scope, 'Alarms');
  const alarm = (name: string, what: string, section: Section, { of, above, periods = 1, outOf = periods }: When): void => {
    const made = new cloudwatch.Alarm(within, inPascalCase(name), {
      alarmName: alarmName(pipeline, name),
      alarmDescription: `${what} What to do: docs/RUNBOOK.md#${section}`,
      metric: of,
      threshold: above,
      comparisonOperator: cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
      evaluationPeriods: outOf,
      datapointsToAlarm: periods,
      treatMissingData: cloudwatch.TreatMissingData.NOT_BREACHING, // none of these numbers is sent while nothing happens
    });
    if (options.topic) {
      made.addAlarmAction(new actions.SnsAction(options.topic));
    }
  };
  const ofPipeline = (name: string, period?: Duration): cloudwatch.Metric => metric(pipeline, name, 'Maximum', period);
  const minute = Duration.minutes(1);

  for (const [lane, { deadLetters }] of Object.entries(parts.lanes)) {
    alarm(`dead-letters-${lane}`, `Events of the ${lane} queue could not be delivered or handled.`, 'dead-letters', {
      of: deadLetters.metricApproximateNumberOfMessagesVisible({ statistic: 'Maximum', period: EVERY }),
      above: 0,
    });
  }
  alarm('failures-unanswered', 'A deployment that on-deploy has failed on waits for the answer of on-scan.', 'dead-letters', {
    of: parts.failures.metricApproximateAgeOfOldestMessage({ statistic: 'Maximum', period: minute }),
    above: Duration.minutes(5).toSeconds(),
  });
  alarm('event-lag', 'Events are handled late: alerts are late, and deployments wait longer than they have to.', 'event-lag', {
    of: ofPipeline('EventLagSeconds'),
    above: (options.eventLag ?? DEFAULT_LAG).toSeconds(),
  });
  alarm('overdue-requests', 'Deployments wait although their time is up.', 'overdue-requests', {
    of: ofPipeline('OverdueRequests', minute),
    above: 0,
    periods: 3, // for a minute and a half it may be a timer that is just ringing
  });
  for (const [key, name, section, when] of [
    // A request is tried three times within minutes. What fails once and then works needs nobody.
    ['on-deploy', 'gate', 'gate-errors', { period: EVERY, periods: 2, outOf: 3 }],
    ['on-sweep', 'sweep', 'sweep-errors', { period: minute, periods: 5, outOf: 5 }],
  ] as const) {
    const { period, ...often } = when;
    const sum = { statistic: 'Sum', period };
    alarm(`${name}-errors`, `${key} fails again and again.`, section, { of: parts.functions[key].metricErrors(sum), above: 0, ...often });
    alarm(`${name}-throttles`, `${key} is kept from running: the account's concurrency is used up.`, section, {
      of: parts.functions[key].metricThrottles(sum),
      above: 0,
      ...often,
    });
  }
}

function inPascalCase(name: string): string {
  return name.replace(/(^|-)(.)/g, (_, __, letter: string) => letter.toUpperCase());
}
