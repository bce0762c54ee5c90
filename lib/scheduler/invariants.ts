import { AutoglmError } from '../errors';
import { Limits } from '../native/abi';
import { pagesFor, type RequestState } from './request-state';
import type { SchedulerState } from './scheduler-state';

function expect(isTrue: boolean, rule: string, values: object): void {
  if (!isTrue) throw new AutoglmError('internal', `broken invariant: ${rule} ${JSON.stringify(values)}`);
}

/** Throws on the first broken invariant, with the values. For tests and idle checks: it looks at every page. */
export function checkState(state: SchedulerState): void {
  state.pool.checkInvariants();
  checkLists(state);
  for (const request of state.requests.values()) checkRequest(state, request);
  checkOwners(state);
  checkFences(state);
  const { draftModel, inFlight } = state;
  if (draftModel === null) return;
  draftModel.sequences.checkInvariants();
  expect(!draftModel.isBusy || inFlight.length === 0, 'a draft step is alone in flight', {});
}

function checkLists(state: SchedulerState): void {
  const { running, waiting, requests, draining, rows, config } = state;
  const counts = {
    running: running.length,
    waiting: waiting.length,
    live: requests.size,
    freeRows: rows.numFree,
  };
  expect(counts.running + counts.waiting === counts.live, 'live requests run or wait', counts);
  expect(counts.running + counts.freeRows === config.maxRows, 'each row is free or runs one request', counts);
  for (const request of running) {
    const { id, phase, row, generation } = request;
    expect(phase === 'running' && requests.get(id) === request, 'who runs is live', { id, phase });
    expect(rows.isCurrent(row, generation), 'who runs has a row', { id, row, generation });
  }
  waiting.requests.forEach((request, i, all) => {
    const { id, phase, row } = request;
    expect(phase === 'waiting' && requests.get(id) === request, 'who waits is live', { id, phase });
    expect(row === -1, 'who waits has no row', { id, row });
    expect(request.isDraining || request.pages.length === 0, 'who waits has no pages', { id });
    const next = all[i + 1];
    expect(next === undefined || request.outranks(next), 'the queue is in rank order', {
      id,
      next: next?.id,
    });
  });
  for (const { id, isDraining, phase } of draining) {
    expect(isDraining && phase !== 'running', 'who drains has left its row', { id, phase });
  }
  const numSpeculating = [...requests.values()].filter(({ speculation }) => speculation !== null).length;
  expect(numSpeculating === state.numSpeculating, 'who guesses is counted', { numSpeculating });
  const numDeadlines = [...requests.values()].filter(({ deadline }) => deadline !== null).length;
  expect(numDeadlines === state.numDeadlines, 'deadlines are counted', {
    numDeadlines,
    counted: state.numDeadlines,
  });
}

function checkRequest(state: SchedulerState, request: RequestState): void {
  const { id, numComputed, numPlanned, numWanted, numLimit, pages, numSentPages, numTokens } = request;
  const values = {
    id,
    numComputed,
    numPlanned,
    numWanted,
    numLimit,
    numTokens,
    pages: pages.length,
    numSentPages,
  };
  expect(request.planCount === 0, 'nothing is half planned', values);
  expect(
    numComputed <= numPlanned && numPlanned <= numWanted && numWanted <= numLimit,
    'counts ascend',
    values,
  );
  expect(numComputed <= numTokens, 'computed tokens are known', values);
  const isKnown = request.numSampling === 1 && numComputed === numPlanned - 1;
  expect(
    request.drafted === null || request.phase === 'ended' || isKnown,
    'guesses follow what is known',
    values,
  );
  if (request.phase !== 'running') return;
  expect(
    pages.length === pagesFor(numPlanned + request.numDrafted),
    'the page table covers exactly the planned and drafted positions',
    values,
  );
  expect(numSentPages === pages.length, 'native knows the page table', values);
  expect(pages.length <= state.config.numPages, 'a request fits the pool', values);
  const numInFlight = state.inFlight.filter(({ requests }) => requests.includes(request)).length;
  expect(numInFlight > 0 || numComputed === numPlanned, 'what is planned is in flight', {
    ...values,
    numInFlight,
  });
}

/** Owners of a page are the page tables it is in; a page that somebody still writes has one. */
function checkOwners(state: SchedulerState): void {
  const owners = new Map<number, number>();
  const writers = new Map<number, number>();
  for (const request of [...state.running, ...state.draining]) {
    const firstWritable = Math.floor(request.numComputed / Limits.pageSize);
    request.pages.forEach((page, index) => {
      owners.set(page, (owners.get(page) ?? 0) + 1);
      if (index >= firstWritable) writers.set(page, request.id);
    });
  }
  for (const [page, count] of owners) {
    const refCount = state.pool.refCount(page as never);
    expect(refCount === count, 'a page has as many owners as page tables it is in', {
      page,
      refCount,
      count,
    });
    const writer = writers.get(page);
    expect(writer === undefined || count === 1, 'a page being written has one owner', {
      page,
      writer,
      count,
    });
  }
  const { numPages, numAvailable } = state.pool;
  const numOwned = owners.size;
  expect(numOwned + numAvailable === numPages, 'owned, cached and free pages are all pages', {
    numOwned,
    numAvailable,
  });
}

function checkFences(state: SchedulerState): void {
  const { appliedStep, plannedStep, inFlight } = state;
  const steps = inFlight.map(({ plan }) => plan.step);
  expect(
    plannedStep - appliedStep === steps.length && steps.length <= Limits.queueDepth,
    'steps in flight add up',
    {
      appliedStep,
      plannedStep,
      steps,
    },
  );
  for (const { plan, requests } of inFlight) {
    plan.entries.forEach(({ id, start, count }, i) => {
      const request = requests[i];
      const numPages = request?.pages.length ?? 0;
      expect(request?.id === id && request.lastStep >= plan.step, 'a step knows its requests', {
        id,
        step: plan.step,
      });
      expect(numPages >= pagesFor(start + count), 'pages stay until their fence', {
        id,
        numPages,
        start,
        count,
      });
    });
  }
  for (const { id, lastStep } of state.draining) {
    expect(lastStep > appliedStep, 'a passed fence holds no pages', { id, lastStep, appliedStep });
  }
}
