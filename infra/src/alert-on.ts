/**
 * Which images alerts are about.
 */
export enum AlertOn {
  /** Images that a gate has let into a stack, for as long as they run there. */
  DEPLOYED = 'DEPLOYED',

  /** Images that one of their own tags still names, and every deployed one. */
  NEWEST_OF_TAG = 'NEWEST_OF_TAG',

  /** Every image whose scan the pipeline hears of. */
  ALL = 'ALL',
}
