// Places that outputs are written to: what a prefix means, and what has to be there before anybody writes.
import { Token } from 'aws-cdk-lib';
import * as s3 from 'aws-cdk-lib/aws-s3';
import { IConstruct } from 'constructs';

/** What an output needs, by what people call it. */
export type Needs = Record<string, IConstruct | undefined>;

/** As it travels: the function adds what is missing at its end, in hand-written templates too. */
export function prefixText(prefix?: string): string | undefined {
  return prefix || undefined;
}

/** The objects below a prefix. */
export function below(bucket: s3.IBucket, prefix?: string): string {
  return bucket.arnForObjects(everythingBelow(prefix));
}

/** How a key below the prefix looks. `logs` means `logs/`, and nothing of `logs-of-others/`. */
export function everythingBelow(prefix = ''): string {
  // How a prefix ends that is only known at deployment, nobody can say here.
  const complete = prefix === '' || prefix.endsWith('/') || Token.isUnresolved(prefix);
  return `${prefix}${complete ? '' : '/'}*`;
}
