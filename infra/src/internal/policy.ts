// What blocks: checks of the policy props, and the text in which the pipeline's policy travels to its functions.
// The functions parse, canonicalise and hash it themselves; here it only has to be right and always the same text.
import { Stack, Token } from 'aws-cdk-lib';
import { Severity } from '../severity';

export interface PolicyProps {
  readonly severity?: Severity[];
  readonly severityThreshold?: Severity;
  readonly ignoreFindings?: string[];
}

const DEFAULT_SEVERITY = [Severity.CRITICAL];

/** The five that have an order, lowest first. */
const RATED = [Severity.INFORMATIONAL, Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL];

// All variables of a Lambda function together may take 4 KB; the others of ours need less than 1 KB.
const MOST_BYTES_OF_POLICY = 3000;

export function checkPolicy(props: PolicyProps): void {
  if (props.severity !== undefined && props.severityThreshold !== undefined) {
    throw new Error(
      "Give either 'severity' or 'severityThreshold', not both: 'severity' lists exactly the severities that block, 'severityThreshold' blocks at its severity and above.",
    );
  }
  if (props.severity?.length === 0) {
    throw new Error(
      "severity must contain at least one severity: with an empty list nothing would ever block. Leave it out for [CRITICAL], or use 'severityThreshold'. To be told without being blocked, set failOnVulnerability to false.",
    );
  }
  if (props.severityThreshold !== undefined && !RATED.includes(props.severityThreshold)) {
    throw new Error(
      `severityThreshold must be one of ${RATED.join(', ')}, got '${props.severityThreshold}': a finding without a rating is neither above nor below any other. List it in 'severity' instead.`,
    );
  }
}

/** One of the two is always said, so that a template shows what blocks. */
export function blockingProps(props: PolicyProps): { severity?: string[]; severityThreshold?: string } {
  return props.severityThreshold === undefined
    ? { severity: props.severity ?? DEFAULT_SEVERITY }
    : { severityThreshold: props.severityThreshold };
}

/** The rated severities that pass although a lower (or an unrated) one blocks. */
export function leftOut(severity: Severity[]): Severity[] {
  const lowest = Math.max(0, RATED.findIndex((rated) => severity.includes(rated)));
  const ratedBlocks = RATED.some((rated) => severity.includes(rated));
  // [UNDEFINED] alone names nothing of the order, so the list has no gap; but CRITICAL passes, and nobody expects that.
  const expected = ratedBlocks ? RATED.slice(lowest) : [Severity.CRITICAL];
  return expected.filter((rated) => !severity.includes(rated));
}

export function policyText(stack: Stack, props: PolicyProps): string {
  const { severity, severityThreshold } = blockingProps(props);
  const ignoreFindings = props.ignoreFindings ?? [];
  const policy = {
    ...(ignoreFindings.length > 0 && { ignoreFindings: sortedSet(ignoreFindings) }),
    ...(severity && { severity: sortedSet(severity) }),
    ...(severityThreshold && { severityThreshold }),
  };
  const bytes = Buffer.byteLength(JSON.stringify(policy));
  if (bytes > MOST_BYTES_OF_POLICY) {
    throw new Error(
      `The pipeline's policy takes ${bytes} bytes, and a function's environment has room for ${MOST_BYTES_OF_POLICY}. Shorten ignoreFindings: the gates have lists of their own.`,
    );
  }
  return stack.toJsonString(policy);
}

function sortedSet(values: string[]): string[] {
  const unique = [...new Set(values)];
  // The text of a token is its number in this run: sorting by it would reorder the template from run to run.
  return unique.some((value) => Token.isUnresolved(value)) ? unique : unique.sort();
}
