/**
 * How severe a finding is, in the words of ECR and Inspector.
 */
export enum Severity {
  /** Worth knowing, no weakness by itself. */
  INFORMATIONAL = 'INFORMATIONAL',

  /** Low. */
  LOW = 'LOW',

  /** Medium. */
  MEDIUM = 'MEDIUM',

  /** High. */
  HIGH = 'HIGH',

  /** Critical, the highest. */
  CRITICAL = 'CRITICAL',

  /** ECR gave the finding no rating. It stands outside the order: no threshold includes it. */
  UNDEFINED = 'UNDEFINED',

  /** Inspector has not rated the finding yet. It stands outside the order: no threshold includes it. */
  UNTRIAGED = 'UNTRIAGED',
}
