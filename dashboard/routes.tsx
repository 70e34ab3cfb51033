import {
  ChartColumn,
  FlaskConical,
  Gauge,
  GraduationCap,
  KeyRound,
  Layers,
  ListTree,
  MessagesSquare,
  Server,
  type IconNode,
} from 'lucide';
import type { ComponentChild, FunctionComponent } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { Client } from './api/client.ts';
import type { View } from './model/view.ts';
import { noAnswer, type Problem } from './model/problem.ts';
import { ProblemNote, Skeleton } from './parts/notes.tsx';
import { AdaptersView } from './views/adapters.tsx';
import { ExperimentView, ExperimentsView } from './views/experiments.tsx';
import { KeysView } from './views/keys/keys.tsx';
import { NewExperimentView } from './views/new-experiment.tsx';
import { OriginsView } from './views/origins.tsx';
import { PlaygroundView } from './views/playground/playground.tsx';
import { NewTrainingView } from './views/training/new-training.tsx';
import { TrainingJobView } from './views/training/training-job.tsx';
import { TrainingsView } from './views/training/trainings.tsx';
import { OverviewView } from './views/traffic/overview.tsx';
import { RequestsView } from './views/traffic/requests.tsx';
import { UsageView } from './views/traffic/usage.tsx';

export interface Route {
  /** First part of its addresses, `#/<at>/…`. */
  readonly at: string;
  /** Label in the menu, and the window's title. */
  readonly label: string;
  /** null = not in the menu, but linked from another view. */
  readonly icon: IconNode | null;
  /** The menu entry that it belongs to. */
  readonly within?: string;
  /** The document that it needs, if it is not the console's own. */
  readonly page?: string;
  readonly show: (props: { client: Client; view: View }) => ComponentChild;
}

/** All views, in the order of the menu; the first one is the default. */
export const ROUTES: readonly Route[] = [
  {
    ...{ at: 'overview', label: 'Overview', icon: Gauge },
    show: ({ client, view }) => <OverviewView client={client} query={view.query} />,
  },
  {
    ...{ at: 'adapters', label: 'Adapters', icon: Layers },
    show: ({ client, view }) => <AdaptersView client={client} name={view.about} />,
  },
  {
    ...{ at: 'training', label: 'Training', icon: GraduationCap },
    show: ({ client, view: { about } }) =>
      about === null ? (
        <TrainingsView client={client} />
      ) : (
        <TrainingJobView key={about} client={client} id={about} />
      ),
  },
  {
    ...{ at: 'new-training', label: 'Train an adapter', icon: null, within: 'training' },
    show: ({ client, view }) => <NewTrainingView client={client} query={view.query} />,
  },
  {
    ...{ at: 'playground', label: 'Playground', icon: MessagesSquare },
    show: ({ client, view }) => <PlaygroundView client={client} query={view.query} />,
  },
  {
    ...{ at: 'here', label: 'In the browser', icon: null, within: 'playground', page: '/dashboard/here' },
    show: ({ client, view }) => <InBrowserLater client={client} query={view.query} />,
  },
  {
    ...{ at: 'experiments', label: 'Experiments', icon: FlaskConical },
    show: ({ client, view: { about } }) =>
      about === null ? (
        <ExperimentsView client={client} />
      ) : (
        <ExperimentView key={about} client={client} id={about} />
      ),
  },
  {
    ...{ at: 'new-experiment', label: 'New experiment', icon: null, within: 'experiments' },
    show: ({ client, view }) => (
      <NewExperimentView client={client} name={view.about ?? ''} query={view.query} />
    ),
  },
  {
    ...{ at: 'usage', label: 'Usage', icon: ChartColumn },
    show: ({ client, view }) => <UsageView client={client} query={view.query} />,
  },
  {
    ...{ at: 'requests', label: 'Requests', icon: ListTree },
    show: ({ client }) => <RequestsView client={client} />,
  },
  {
    ...{ at: 'keys', label: 'Keys', icon: KeyRound },
    show: ({ client }) => <KeysView client={client} />,
  },
  {
    ...{ at: 'origins', label: 'Origins', icon: Server },
    show: ({ client }) => <OriginsView client={client} />,
  },
];

/** @returns the route of an address, and the view with that route's parameters. */
export function routeOf(view: View): { route: Route; view: View } {
  const known = ROUTES.find(({ at }) => at === view.at);
  if (known !== undefined) return { route: known, view };
  const first = ROUTES[0]!;
  return { route: first, view: { at: first.at, about: null, query: '' } };
}

/** Its code is loaded on demand. */
function InBrowserLater(props: { client: Client; query: string }) {
  const [View, setView] = useState<FunctionComponent<typeof props> | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  useEffect(
    () =>
      void import('./views/in-browser.tsx').then(
        ({ InBrowserView }) => setView(() => InBrowserView),
        () => setProblem({ ...noAnswer(), advice: 'Reload the page.' }),
      ),
    [],
  );
  if (problem !== null) return <ProblemNote problem={problem} />;
  return View === null ? <Skeleton label="the page" /> : <View {...props} />;
}
