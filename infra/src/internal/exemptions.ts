// Exemptions: which are refused, and how they travel.
import { Token } from 'aws-cdk-lib';
import { Exemption } from '../policy-options';
import { flagText, isBlank } from './texts';

const IF_EMPTY = {
  id: "name the vulnerability that it excuses, for example 'CVE-2024-3094'",
  reason: 'say why the finding may pass, for those who read it beside the finding',
  package: 'leave it out to excuse the finding in every package',
  repository: 'leave it out to excuse the finding in every repository',
};

export function checkExemptions(exemptions: Exemption[]): void {
  const seen = new Set<string>();
  exemptions.forEach((exemption, n) => {
    for (const member of ['id', 'reason', 'package', 'repository'] as const) {
      if (isBlank(exemption[member] ?? 'left out')) {
        throw new Error(`exemptions[${n}].${member} is empty: ${IF_EMPTY[member]}.`);
      }
    }
    if (!Token.isUnresolved(exemption.until) && !isDay(exemption.until)) {
      throw new Error(
        `exemptions[${n}].until is '${exemption.until}', which is no day of the calendar: write the last day of the exemption of '${exemption.id}' as YYYY-MM-DD, for example 2026-12-31.`,
      );
    }
    const scope = JSON.stringify([exemption.id, exemption.package, exemption.repository]);
    if (!Token.isUnresolved(scope) && seen.has(scope)) {
      throw new Error(
        `exemptions[${n}] excuses '${exemption.id}' a second time for the same package and repository: which of the two last days holds, nobody could say. Keep one, or tell them apart by 'package' or 'repository'.`,
      );
    }
    seen.add(scope);
  });
}

function isDay(text: string): boolean {
  const day = new Date(`${text}T00:00:00Z`);
  // What is no date at all is invalid; a day that does not exist is moved on to one that does, 30 February to 2 March.
  return !Number.isNaN(day.getTime()) && isoDay(day) === text;
}

export function isoDay(date: Date): string {
  return date.toISOString().slice(0, 10);
}

export function exemptionTexts(exemptions: Exemption[]): Record<string, string | undefined>[] {
  return exemptions.map(({ id, reason, until, package: name, repository, untilFixed }) => ({
    id,
    reason,
    until,
    package: name,
    repository,
    untilFixed: flagText(untilFixed),
  }));
}
