/**
 * What decides about a finding besides its severity.
 *
 * A gate judges by its own choices, the verdicts of a pipeline by the pipeline's. Whatever is left out here excuses nothing.
 */
export interface PolicyOptions {
  /**
   * Lets findings pass until a last day, each with a reason.
   *
   * They stay in the verdict, marked. One that has ended excuses nothing, and raises a warning; so does one that lasts for
   * more than 365 days.
   *
   * @default - no finding is exempt
   */
  readonly exemptions?: Exemption[];

  /**
   * Lets findings pass as long as there is no fix for them.
   *
   * Only Inspector knows whether there is one: refused with `ScanConfig.basic()`.
   *
   * @default false
   */
  readonly ignoreUnfixed?: boolean;

  /**
   * Blocks when there are more findings of a severity than so many.
   *
   * A severity that is listed here does not block finding by finding: up to that number its findings pass, with one more
   * all of them block. A severity that is not listed blocks as `severity` or `severityThreshold` says.
   *
   * @default - `severity` or `severityThreshold` decides, finding by finding
   */
  readonly maxFindings?: MaxFindings;

  /**
   * Blocks on these vulnerabilities, by id, whatever their severity and everything else here say.
   *
   * No exemption, no `ignoreUnfixed`, no grace and no `exploit` excuses them. An id that is also ignored or exempt is refused.
   *
   * @default - no finding blocks always
   */
  readonly blockAlways?: string[];

  /**
   * Lets a finding pass until it has been known for so many days: 1 to 365.
   *
   * They count from the day on which the scanner first saw it on the image. Only Inspector says when: refused with
   * `ScanConfig.basic()`.
   *
   * @default - a finding blocks from the first day
   */
  readonly graceDays?: number;

  /**
   * Blocks only on findings for which an exploit is known or likely, or nobody says whether one is.
   *
   * Only Inspector knows: refused with `ScanConfig.basic()`.
   *
   * @default - a finding blocks with and without a known exploit
   */
  readonly exploit?: ExploitLimits;
}

/**
 * A finding that may pass until a last day.
 */
export interface Exemption {
  /**
   * Names the vulnerability, exactly as the scanner does: `CVE-2024-3094`.
   */
  readonly id: string;

  /**
   * Says why it may pass; people read it beside the finding.
   */
  readonly reason: string;

  /**
   * The last day on which it excuses anything, in UTC: `YYYY-MM-DD`.
   */
  readonly until: string;

  /**
   * Excuses the vulnerability in this package alone, by the name that the scanner gives it.
   *
   * @default - in every package
   */
  readonly package?: string;

  /**
   * Excuses the vulnerability in the repository of this name alone, for a list that several gates share.
   *
   * @default - in every repository
   */
  readonly repository?: string;

  /**
   * Ends it as soon as there is a fix, even before its last day.
   *
   * Only Inspector knows whether there is one: refused with `ScanConfig.basic()`.
   *
   * @default false
   */
  readonly untilFixed?: boolean;
}

/**
 * How many findings of a severity pass; at least one member.
 */
export interface MaxFindings {
  /**
   * Blocks when there are more CRITICAL findings.
   *
   * @default - not limited by number
   */
  readonly critical?: number;

  /**
   * Blocks when there are more HIGH findings.
   *
   * @default - not limited by number
   */
  readonly high?: number;

  /**
   * Blocks when there are more MEDIUM findings.
   *
   * @default - not limited by number
   */
  readonly medium?: number;

  /**
   * Blocks when there are more LOW findings.
   *
   * @default - not limited by number
   */
  readonly low?: number;

  /**
   * Blocks when there are more INFORMATIONAL findings.
   *
   * @default - not limited by number
   */
  readonly informational?: number;
}

/**
 * Which findings are dangerous enough to block; at least one member. With both, either is enough.
 */
export interface ExploitLimits {
  /**
   * Blocks on findings for which Inspector knows an exploit.
   *
   * @default false
   */
  readonly exploitAvailable?: boolean;

  /**
   * Blocks on findings whose exploitation within 30 days is at least this likely, by their EPSS score: 0 to 1, as in `0.1`.
   *
   * A finding without a score blocks. The scores are those of the last reading of the image; reading them takes a list of
   * Inspector's own, 25 findings a page, so the first deployment that asks for them waits some seconds longer.
   *
   * @default - no finding is judged by its likelihood
   */
  readonly epss?: number;
}
