import { Duration } from 'aws-cdk-lib';
import * as sns from 'aws-cdk-lib/aws-sns';

/**
 * Choices for the alarms of a pipeline.
 */
export interface AlarmOptions {
  /**
   * Hears when an alarm goes off.
   *
   * A topic whose policy or key is your own has to let `cloudwatch.amazonaws.com` publish and use the key.
   *
   * @default - nobody; the alarms are seen in CloudWatch alone
   */
  readonly topic?: sns.ITopic;

  /**
   * Goes off when an event has taken longer than this from AWS to its handling: 1 minute to 1 day.
   *
   * @default Duration.minutes(10)
   */
  readonly eventLag?: Duration;
}
