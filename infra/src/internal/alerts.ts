// Who is told of what becomes of an image after its deployment: which props are refused, and how they travel.
import { Duration, Stack, Token } from 'aws-cdk-lib';
import { AlertOn } from '../alert-on';
import { EcrScanPipelineProps } from '../ecr-scan-pipeline';
import { RATED } from './policy';

export type AlertProps = Pick<EcrScanPipelineProps, 'alertTopic' | 'alertOn' | 'alertSeverity' | 'alertQuietPeriod' | 'exemptionWarning'>;

const DEFAULT_WARNING = Duration.days(7);

export function checkAlerts(props: AlertProps): void {
  checkThatSomebodyHears(props);
  const { alertOn, alertSeverity } = props;
  const choices = Object.values(AlertOn);
  if (alertOn !== undefined && !Token.isUnresolved(alertOn) && !choices.includes(alertOn)) {
    throw new Error(`alertOn must be one of ${choices.join(', ')}, got '${alertOn}'. Use a member of AlertOn.`);
  }
  if (alertSeverity !== undefined && !Token.isUnresolved(alertSeverity) && !RATED.includes(alertSeverity)) {
    throw new Error(
      `alertSeverity must be one of ${RATED.join(', ')}, got '${alertSeverity}': a finding without a rating is neither above nor below any other. Leave it out, and every finding that blocks is told.`,
    );
  }
  checkQuietPeriod(props);
  checkExemptionWarning(props);
}

function checkThatSomebodyHears(props: AlertProps): void {
  for (const prop of ['alertOn', 'alertSeverity', 'alertQuietPeriod', 'exemptionWarning'] as const) {
    if (props[prop] !== undefined && props.alertTopic === undefined) {
      throw new Error(`${prop} does nothing without alertTopic: it is about the alerts that go there. Give alertTopic, or leave it out.`);
    }
  }
}

const SHORTEST_QUIET = Duration.minutes(1);
const LONGEST_QUIET = Duration.days(7);

function checkQuietPeriod({ alertQuietPeriod: period }: AlertProps): void {
  const seconds = period?.toSeconds({ integral: false }) ?? SHORTEST_QUIET.toSeconds();
  if (period?.isUnresolved()) {
    return;
  }
  if (!Number.isInteger(seconds) || seconds < SHORTEST_QUIET.toSeconds() || seconds > LONGEST_QUIET.toSeconds()) {
    throw new Error(
      `alertQuietPeriod must be between 1 minute and 7 days, in whole seconds, got ${period!.toHumanString()}. Leave it out to be told of each new finding at once.`,
    );
  }
}

function checkExemptionWarning({ exemptionWarning: warning = DEFAULT_WARNING }: AlertProps): void {
  const days = warning.toDays({ integral: false });
  if (!warning.isUnresolved() && !(Number.isInteger(days) && days >= 1 && days <= 90)) {
    throw new Error(
      `exemptionWarning must be between 1 and 90 whole days, got ${warning.toHumanString()}: exemptions end at the end of a day. Leave it out for 7 days.`,
    );
  }
}

/** As the function reads it: always the same text for the same choices. */
export function alertsText(stack: Stack, props: AlertProps): string {
  return stack.toJsonString({
    on: props.alertOn ?? AlertOn.DEPLOYED,
    quietSeconds: props.alertQuietPeriod?.toSeconds(),
    severity: props.alertSeverity,
    warnDays: (props.exemptionWarning ?? DEFAULT_WARNING).toDays(),
  });
}
