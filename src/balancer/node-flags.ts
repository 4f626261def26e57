/**
 * What Node is to be started with to be a balancer, here and in bin/eval-hive. What requests leave behind is little and soon
 * garbage: with more room for it (up to 100 MB by default) it is not cheaper to collect, only larger.
 */
export const nodeFlags: readonly string[] = ["--max-semi-space-size=16"];
