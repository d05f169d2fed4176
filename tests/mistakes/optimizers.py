"""T1, T2, T3, T7, T10 in optimizers that are wrapped, accumulated, looped or written by hand."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _spec(loss, train_op, **fields):
    return tf.estimator.EstimatorSpec('train', loss=loss, train_op=train_op, **fields)


def _xent(labels, logits):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def _net(features, labels, width=5):
    net = v1.layers.dense(features['x'], width, tf.nn.relu)
    return _xent(labels, v1.layers.dense(net, 3))


def optimize_loss(loss, step, rate, make, clip=None, increment=True):
    """Like tf.contrib.layers.optimize_loss: what it returns is a tensor."""
    with v1.variable_scope(None, 'OptimizeLoss', [loss, step]):
        optimizer = make(rate)
        pairs = optimizer.compute_gradients(loss, v1.trainable_variables())
        pairs = [(g + tf.random.normal(tf.shape(g), stddev=1e-6), v) for g, v in pairs
                 if g is not None]
        if clip is not None:
            clipped, _ = tf.clip_by_global_norm([g for g, _ in pairs], clip)
            pairs = list(zip(clipped, [v for _, v in pairs]))
        for gradient, variable in pairs:
            v1.summary.scalar('norm/' + variable.op.name, tf.norm(gradient))
        updates = optimizer.apply_gradients(pairs, step if increment else None, name='train')
        with v1.control_dependencies([updates, *v1.get_collection(v1.GraphKeys.UPDATE_OPS)]):
            return tf.identity(loss, name='train_tensor')


@PROGRAMS.pair('T1', TRAIN)
def train_tensor_without_increment(features, labels, mode, right):
    """A tensor as train_op, whose optimizer was told not to count."""
    loss = _net(features, labels)
    return _spec(loss, optimize_loss(loss, v1.train.get_global_step(), .1,
                                     v1.train.AdamOptimizer, 5., increment=right))


class MovingAverageOptimizer(v1.train.Optimizer):
    """Like tf.contrib.opt.MovingAverageOptimizer; `forward` False forgets to pass the step on."""

    def __init__(self, optimizer, forward):
        super().__init__(False, 'MovingAverage')
        self.optimizer, self.forward = optimizer, forward
        self.average = tf.train.ExponentialMovingAverage(.999)

    def compute_gradients(self, *args, **kwargs):
        return self.optimizer.compute_gradients(*args, **kwargs)

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        pairs = list(grads_and_vars)
        step = global_step if self.forward else None
        train_op = self.optimizer.apply_gradients(pairs, step, name)
        with v1.control_dependencies([train_op]):
            return tf.group(self.average.apply([v for _, v in pairs]))


@PROGRAMS.pair('T1', TRAIN, data=data.images())
def wrapper_that_loses_the_step(features, labels, mode, right):
    """A wrapper of averages takes global_step and does not hand it on."""
    net = v1.layers.separable_conv2d(features['image'], 4, 3, activation=tf.nn.relu6)
    loss = _xent(labels, v1.layers.dense(v1.layers.flatten(net), 3))
    optimizer = MovingAverageOptimizer(v1.train.MomentumOptimizer(.1, .9), right)
    return _spec(loss, optimizer.minimize(loss, v1.train.get_global_step()))


@PROGRAMS.pair('T1', TRAIN)
def accumulators_and_take_grad(features, labels, mode, right):
    """ConditionalAccumulators gather four batches; the step counts the applications."""
    loss = _net(features, labels)
    variables = v1.trainable_variables()
    boxes = [v1.ConditionalAccumulator(v.dtype.base_dtype, v.shape, shared_name=f'box{n}')
             for n, v in enumerate(variables)]
    local = v1.get_variable('batches', [], tf.int64, v1.zeros_initializer(), trainable=False)
    put = [box.apply_grad(g, local_step=local)
           for box, g in zip(boxes, tf.gradients(loss, variables))]
    with v1.control_dependencies(put):
        enough = tf.greater_equal(boxes[0].num_accumulated(), 4)

    def take():
        taken = [box.take_grad(4) for box in boxes]
        return tf.group(v1.train.AdagradOptimizer(.1).apply_gradients(
            zip(taken, variables), v1.train.get_global_step() if right else None))

    return _spec(loss, tf.cond(enough, take, tf.no_op))


@PROGRAMS.pair('T1', TRAIN)
def another_variable_named_global_step(features, labels, mode, right):
    """A variable called global_step, which becomes global_step_1."""
    step = (v1.train.get_or_create_global_step() if right
            else tf.Variable(0, name='global_step', trainable=False, dtype=tf.int64))
    loss = _net(features, labels)
    rate = v1.train.natural_exp_decay(.1, step, 100, .5)
    return _spec(loss, v1.train.GradientDescentOptimizer(rate).minimize(loss, step))


@PROGRAMS.pair('T1', TRAIN, data=data.column(), needs_v2='assigns a resource in a tf.function')
def tape_and_steps_in_a_function(features, labels, mode, right):
    """Three inner steps in one tf.function with a loop; outside of it nothing trains."""
    w, b = tf.Variable(tf.ones([6, 1]), name='w'), tf.Variable(tf.zeros([1]), name='b')
    step = v1.train.get_global_step()

    @tf.function
    def train(x, y):
        value = tf.constant(0.)
        for _ in tf.range(3):
            with tf.GradientTape() as tape:
                value = tf.reduce_mean(tf.square(tf.matmul(x, w) + b - y))
            gw, gb = tape.gradient(value, [w, b])
            w.assign_sub(.1 * gw)
            b.assign_sub(.1 * gb)
            if right:
                step.assign_add(1)
        return value

    loss = train(features['x'], labels)
    return _spec(loss, tf.identity(loss))


@PROGRAMS.pair('T1', TRAIN, data=data.column())
def loop_of_inner_steps(features, labels, mode, right):
    """tf.while_loop around assigns (v1 control flow under TF1)."""
    w = v1.get_variable('w', [6, 1], use_resource=True)
    step = v1.train.get_or_create_global_step()

    def body(i):
        error = tf.matmul(features['x'], w) - labels
        slope = tf.matmul(features['x'], error, transpose_a=True)
        with v1.control_dependencies([w.assign_sub(.01 * slope)]):
            return i + 1

    done, = tf.nest.flatten(tf.while_loop(lambda i: i < 4, body, [tf.constant(0)]))
    with v1.control_dependencies([done]):
        train_op = v1.assign_add(step, 1) if right else tf.identity(done)
    loss = tf.reduce_mean(tf.square(tf.matmul(features['x'], w) - labels))
    return _spec(loss, train_op)


@PROGRAMS.pair('T1', TRAIN, data=data.vector())
def value_of_the_step_as_global_step(features, labels, mode, right):
    """The next step is computed, and never assigned."""
    step = v1.train.get_global_step()
    value = v1.layers.dense(features['x'], 1)[:, 0]
    loss = v1.losses.log_loss(labels, tf.sigmoid(value))
    update = v1.train.ProximalAdagradOptimizer(.1).minimize(loss)
    with v1.control_dependencies([update]):
        train_op = v1.assign(step, step + 1) if right else step + 1
    return _spec(loss, train_op)


class Agent:
    """A deep-Q agent with a replay buffer and a target net, each in variables."""

    def __init__(self, x):
        self.buffer = v1.get_variable('buffer', [32, 6], trainable=False)
        self.cursor = v1.get_variable('cursor', [], tf.int64, v1.zeros_initializer(),
                                      trainable=False)
        rows = tf.shape(x, out_type=tf.int64)[0]
        places = (self.cursor + tf.range(rows)) % 32
        self.store = [v1.scatter_update(self.buffer, places, x), self.cursor.assign_add(rows)]

    @staticmethod
    def q(x, scope):
        with v1.variable_scope(scope, reuse=v1.AUTO_REUSE):
            return v1.layers.dense(v1.layers.dense(x, 6, tf.nn.relu, name='h'), 3, name='q')


@PROGRAMS.pair('T1', TRAIN, data=data.unlabelled())
def replay_buffer_and_target_net(features, labels, mode, right):
    """Reinforcement learning: store, sample, train on some steps, copy the target net."""
    agent, step = Agent(features['x']), v1.train.get_global_step()
    with v1.control_dependencies(agent.store):
        batch = tf.gather(agent.buffer, tf.random.uniform([8], 0, 32, tf.int32))
    best = tf.reduce_max(agent.q(batch, 'target'), 1)
    taken = agent.q(batch, 'online')[:, 0]
    loss = v1.losses.huber_loss(tf.stop_gradient(.99 * best), taken)
    pairs = list(zip(v1.trainable_variables('target'), v1.trainable_variables('online')))
    optimizer = v1.train.AdamOptimizer()
    gradients = optimizer.compute_gradients(loss, [o for _, o in pairs])
    learn = tf.cond(agent.cursor > 16, lambda: tf.group(optimizer.apply_gradients(gradients)),
                    tf.no_op)
    with v1.control_dependencies([learn]):
        copy = tf.cond(tf.equal(step % 100, 0),
                       lambda: tf.group(*[t.assign(o) for t, o in pairs]), tf.no_op)
        count = [v1.assign_add(step, 1)] if right else []
    return _spec(loss, tf.group(copy, *count))


@PROGRAMS.pair('T2', TRAIN, also=('T1',))
def keras_loss_scale_optimizer(features, labels, mode, right):
    """A legacy Keras optimizer of mixed precision, with scaled gradients by hand."""
    layers = [tf.keras.layers.Dense(4, 'relu'), tf.keras.layers.Dense(3)]
    loss = _xent(labels, layers[1](layers[0](features['x'])))
    weights = layers[0].trainable_variables + layers[1].trainable_variables
    inner = tf.keras.optimizers.legacy.SGD(.1, momentum=.9, nesterov=True)
    if right:
        inner.iterations = v1.train.get_or_create_global_step()
    gradients = [g / 128. for g in tf.gradients(128. * loss, weights)]
    return _spec(loss, inner.apply_gradients(zip(gradients, weights)))


@PROGRAMS.pair('T2', TRAIN, also=('T1',))
def keras_ftrl_and_adam_by_layer(features, labels, mode, right):
    """Two legacy Keras optimizers; one counts in the step, or none does."""
    wide, deep = tf.keras.layers.Dense(3, use_bias=False), tf.keras.layers.Dense(3)
    loss = _xent(labels, wide(features['x']) + deep(tf.nn.relu(features['x'] - .5)))
    ftrl = tf.keras.optimizers.legacy.Ftrl(.1)
    adam = tf.keras.optimizers.legacy.Adam(.01, amsgrad=True)
    if right:
        adam.iterations = v1.train.get_global_step()
    ops = [ftrl.get_updates(loss, wide.trainable_variables),
           adam.get_updates(loss, deep.trainable_variables)]
    return _spec(loss, tf.group(*ops))


@PROGRAMS.pair('T3', TRAIN)
def optimize_loss_for_two_parts(features, labels, mode, right):
    """optimize_loss counts by default, once for each call."""
    step = v1.train.get_global_step()
    first = _net(features, labels)
    second = .1 * tf.add_n([tf.nn.l2_loss(v) for v in v1.trainable_variables()])
    ops = [optimize_loss(first, step, .1, v1.train.GradientDescentOptimizer),
           optimize_loss(second, step, .01, v1.train.GradientDescentOptimizer,
                         increment=not right)]
    return _spec(first + second, tf.group(*ops))


@PROGRAMS.pair('T3', TRAIN)
def actor_and_critic(features, labels, mode, right):
    """Two optimizers, the second of which may count in a step of its own."""
    step = v1.train.get_global_step()
    logits = v1.layers.dense(features['x'], 3, name='actor')
    value = v1.layers.dense(features['x'], 1, name='critic')[:, 0]
    reward = tf.cast(tf.equal(tf.random.categorical(logits, 1)[:, 0], labels), tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    actor = tf.reduce_mean(losses * tf.stop_gradient(reward - value))
    critic = tf.reduce_mean(tf.square(reward - value))
    own = v1.get_variable('critic_step', [], tf.int64, v1.zeros_initializer(), trainable=False)
    ops = [v1.train.AdamOptimizer(1e-4).minimize(
        actor, step, v1.trainable_variables('actor'), name='actor_train'),
        v1.train.AdamOptimizer(1e-3).minimize(
            critic, own if right else step, v1.trainable_variables('critic'))]
    return _spec(actor + critic, tf.group(*ops))


@PROGRAMS.pair('T3', TRAIN)
def counted_before_and_after(features, labels, mode, right):
    """The step is assigned before the forward pass; the optimizer counts as well."""
    step = v1.train.get_global_step()
    with v1.control_dependencies([v1.assign(step, step + 1)]):
        x = tf.identity(features['x'])
    loss = _net({'x': x}, labels)
    op = v1.train.AdadeltaOptimizer(1.).minimize(loss, None if right else step)
    return _spec(loss, op)


@PROGRAMS.pair('T7', TRAIN)
def schedule_in_numpy(features, labels, mode, right):
    """The rate is computed in Python, from a counter that never moves."""
    clock = (v1.train.get_global_step() if right
             else v1.get_variable('my_step', [], tf.int64, v1.zeros_initializer(),
                                  trainable=False))
    rate = v1.py_func(lambda s: np.float32(.1 / (1. + s)), [clock], tf.float32)
    rate.set_shape([])
    loss = _net(features, labels)
    return _spec(loss, v1.train.MomentumOptimizer(rate, .9).minimize(
        loss, v1.train.get_global_step()))


@PROGRAMS.pair('T7', TRAIN)
def clock_of_the_keras_optimizer(features, labels, mode, right):
    """A schedule reads the iterations of a Keras optimizer that trains nothing."""
    keras = tf.keras.optimizers.legacy.SGD(.1)
    clock = v1.train.get_global_step() if right else keras.iterations
    schedule = tf.keras.optimizers.schedules.PolynomialDecay(.1, 100, .001, power=2.)
    loss = _net(features, labels)
    return _spec(loss, v1.train.AdamOptimizer(schedule(clock)).minimize(
        loss, v1.train.get_global_step()))


@PROGRAMS.pair('T7', TRAIN)
def warmup_by_a_local_counter(features, labels, mode, right):
    """A counter among the local variables, and cond between warm-up and decay."""
    count = v1.get_local_variable('steps_seen', [], tf.float32, v1.zeros_initializer())
    rate = tf.cond(count < 100., lambda: .1 * (count + 1.) / 100., lambda: .1 * 100. / count)
    loss = _net(features, labels)
    train_op = v1.train.RMSPropOptimizer(rate).minimize(loss, v1.train.get_global_step())
    if right:
        with v1.control_dependencies([train_op]):
            train_op = count.assign_add(1.).op
    return _spec(loss, train_op)


@PROGRAMS.pair('T7', TRAIN, needs_v2='a tf.function cannot capture a reference variable')
def schedule_in_a_function(features, labels, mode, right):
    """A tf.function computes the rate, and may count as it does."""
    count = tf.Variable(0, trainable=False, dtype=tf.int64, name='calls_count')

    @tf.function
    def rate():
        if right:
            count.assign_add(1)
        done = tf.cast(count, tf.float32)
        return .1 * tf.math.rsqrt(tf.maximum(done, 10.))

    loss = _net(features, labels)
    return _spec(loss, v1.train.FtrlOptimizer(rate()).minimize(
        loss, v1.train.get_global_step()))


class StartTokens(tf.estimator.SessionRunHook):
    """A hook of the author's own in the place of make_session_run_hook."""

    def __init__(self, optimizer, is_chief):
        self._optimizer, self._is_chief = optimizer, is_chief

    def begin(self):
        self._local = (self._optimizer.chief_init_op if self._is_chief
                       else self._optimizer.local_step_init_op)
        self._tokens = self._optimizer.get_init_tokens_op(4)
        self._runner = self._optimizer.get_chief_queue_runner()

    def after_create_session(self, session, coord):
        session.run(self._local)
        if self._is_chief:
            session.run(self._tokens)
            self._runner.create_threads(session, coord=coord, daemon=True, start=True)


@PROGRAMS.pair('T10', TRAIN, cluster='chief/0')
def own_hook_for_the_tokens(features, labels, mode, right, config):
    """The author's own hook, on every worker; or none, with clipped gradients."""
    loss = _net(features, labels)
    optimizer = v1.train.SyncReplicasOptimizer(v1.train.RMSPropOptimizer(.01), 3)
    gradients, variables = zip(*optimizer.compute_gradients(loss))
    gradients, _ = tf.clip_by_global_norm(gradients, 1.)
    op = optimizer.apply_gradients(zip(gradients, variables), v1.train.get_global_step())
    hooks = [StartTokens(optimizer, config.is_chief)] if right else []
    return _spec(loss, op, training_hooks=hooks)


@PROGRAMS.pair('T10', TRAIN, cluster='worker/0')
def hooks_dropped_by_a_copy(features, labels, mode, right, config):
    """A spec is rebuilt from another one, without its hooks."""
    loss = _net(features, labels)
    optimizer = v1.train.SyncReplicasOptimizer(
        v1.train.AdamOptimizer(), replicas_to_aggregate=2,
        variable_averages=tf.train.ExponentialMovingAverage(.99, v1.train.get_global_step()),
        variables_to_average=v1.trainable_variables())
    op = optimizer.minimize(loss, v1.train.get_global_step())
    spec = _spec(loss, op, training_hooks=[optimizer.make_session_run_hook(config.is_chief)])
    if right:
        return spec._replace(predictions={'loss': loss})
    return _spec(spec.loss, spec.train_op, predictions={'loss': loss})


@PROGRAMS.pair('T3', TRAIN)
def keras_optimizers_share_the_step(features, labels, mode, right):
    """Two legacy Keras optimizers with the global step as their iterations."""
    first, last = tf.keras.layers.Dense(4, 'relu'), tf.keras.layers.Dense(3)
    loss = _xent(labels, last(first(features['x'])))
    ops = []
    for position, layer in enumerate((first, last)):
        optimizer = tf.keras.optimizers.legacy.SGD(.1)
        if position == 0 or not right:
            optimizer.iterations = v1.train.get_global_step()
        ops.append(optimizer.get_updates(loss, layer.trainable_variables))
    return _spec(loss, tf.group(*ops))


@PROGRAMS.pair('T3', TRAIN)
def counted_on_the_way_to_the_loss(features, labels, mode, right):
    """The reported loss waits for an increment; the optimizer counts as well."""
    step, loss = v1.train.get_global_step(), _net(features, labels)
    op = v1.train.AdamOptimizer().minimize(loss, step)
    if not right:
        with v1.control_dependencies([v1.assign_add(step, 1)]):
            loss = tf.identity(loss)
    return _spec(loss, op)


@PROGRAMS.pair('T7', TRAIN)
def rate_of_a_keras_optimizer(features, labels, mode, right):
    """The rate is a tensor over a variable of its own, while the optimizer counts in the step."""
    layer = tf.keras.layers.Dense(3)
    loss = _xent(labels, layer(features['x']))
    clock = (v1.train.get_global_step() if right
             else tf.Variable(0, trainable=False, name='decay_step'))
    optimizer = tf.keras.optimizers.legacy.Adam(
        tf.keras.optimizers.schedules.ExponentialDecay(.1, 100, .9)(clock))
    optimizer.iterations = v1.train.get_global_step()
    return _spec(loss, tf.group(*optimizer.get_updates(loss, layer.trainable_variables)))


@PROGRAMS.pair('T7', TRAIN)
def gradients_times_a_schedule(features, labels, mode, right):
    """The optimizer's rate is fixed; the gradients are multiplied by a schedule."""
    loss = _net(features, labels)
    clock = v1.train.get_global_step() if right else v1.get_variable(
        'epoch', [], tf.int32, v1.zeros_initializer(), trainable=False)
    factor = tf.cast(v1.train.piecewise_constant(clock, [10], [1., .1]), tf.float32)
    optimizer = v1.train.MomentumOptimizer(.1, .9)
    pairs = [(g * factor, v) for g, v in optimizer.compute_gradients(loss)]
    return _spec(loss, optimizer.apply_gradients(pairs, v1.train.get_global_step()))


# Correct programs.


class LookAhead(v1.train.Optimizer):
    """Slow weights follow the fast ones every fifth step."""

    def __init__(self, inner):
        super().__init__(False, 'LookAhead')
        self.inner = inner

    def _create_slots(self, var_list):
        for variable in var_list:
            self._get_or_make_slot(variable, variable.initial_value, 'slow', self._name)

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        pairs = list(grads_and_vars)
        self._create_slots([v for _, v in pairs])
        with v1.control_dependencies([self.inner.apply_gradients(pairs, global_step)]):
            def sync():
                ops = []
                for _, variable in pairs:
                    slow = self.get_slot(variable, 'slow')
                    moved = slow + .5 * (variable - slow)
                    ops += [slow.assign(moved), variable.assign(moved)]
                return tf.group(*ops)

            return tf.cond(tf.equal(global_step % 5, 0), sync, tf.no_op, name=name)


@PROGRAMS.good(TRAIN)
def look_ahead(features, labels, mode):
    """An optimizer around an optimizer, with slots of its own."""
    loss = _net(features, labels)
    op = LookAhead(v1.train.AdamOptimizer()).minimize(loss, v1.train.get_global_step())
    return _spec(loss, op)


@PROGRAMS.good(TRAIN)
def sharpness_aware(features, labels, mode):
    """Up the slope, gradients there, back down, one optimizer step."""
    variables = [v1.get_variable('w', [6, 3]), v1.get_variable('b', [3])]

    def compute():
        return _xent(labels, tf.matmul(features['x'], variables[0].read_value())
                     + variables[1].read_value())

    loss = compute()
    ascent = [.05 * g for g in tf.gradients(loss, variables)]
    with v1.control_dependencies([v1.assign_add(v, e) for v, e in zip(variables, ascent)]):
        raised = tf.gradients(compute(), variables)
    with v1.control_dependencies([g for g in raised if g is not None]):
        back = [v1.assign_sub(v, e) for v, e in zip(variables, ascent)]
    with v1.control_dependencies(back):
        op = v1.train.GradientDescentOptimizer(.1).apply_gradients(
            zip(tf.gradients(loss, variables), variables), v1.train.get_global_step())
    return _spec(loss, op)


@PROGRAMS.good(TRAIN)
def branches_that_both_count(features, labels, mode):
    """Warm-up with one optimizer, then another; each branch counts."""
    step = v1.train.get_global_step()
    loss = _net(features, labels)
    sgd, adam = v1.train.GradientDescentOptimizer(.1), v1.train.AdamOptimizer()
    pairs = sgd.compute_gradients(loss)
    op = tf.case([(step < 10, lambda: tf.group(sgd.apply_gradients(pairs, step)))],
                 default=lambda: tf.group(adam.apply_gradients(pairs, step)))
    return _spec(loss, op)


@PROGRAMS.good(TRAIN)
def step_that_jumps_by_eight(features, labels, mode):
    """The step counts examples of all towers: one assign_add of 8."""
    loss = _net(features, labels)
    op = v1.train.GradientDescentOptimizer(.1).minimize(loss)
    with v1.control_dependencies([op]):
        return _spec(loss, v1.assign_add(v1.train.get_global_step(), 8))


@PROGRAMS.good(TRAIN)
def evolution_strategy(features, labels, mode):
    """No gradients: weights move along noise that was rewarded."""
    w = v1.get_variable('w', [6, 3])
    noise = tf.random.normal([8, 6, 3])
    tried = tf.einsum('bi,nij->nbj', features['x'], w + .05 * noise)
    rewards = tf.map_fn(lambda logits: -_xent(labels, logits), tried)
    step = tf.einsum('n,nij->ij', rewards - tf.reduce_mean(rewards), noise)
    with v1.control_dependencies([v1.assign_add(w, .01 * step)]):
        op = v1.assign_add(v1.train.get_global_step(), 1)
    return _spec(-tf.reduce_mean(rewards), op)


@PROGRAMS.good(TRAIN)
def epoch_from_the_features(features, labels, mode):
    """The rate follows a number that comes with the data; an epoch counter waits unused."""
    v1.get_variable('epoch', [], tf.int64, v1.zeros_initializer(), trainable=False)
    rate = .1 * tf.math.exp(-tf.reduce_max(features['x']))
    loss = _net(features, labels)
    return _spec(loss, v1.train.MomentumOptimizer(rate, .9).minimize(
        loss, v1.train.get_global_step()))


@PROGRAMS.good(TRAIN)
def rate_by_number_of_restarts(features, labels, mode):
    """A start step, fixed at 0 by the code that resumes, beside the global step."""
    start = v1.get_variable('start_step', [], tf.int64, v1.zeros_initializer(), trainable=False)
    since = tf.cast(v1.train.get_global_step() - start, tf.float32)
    loss = _net(features, labels)
    rate = tf.where(since < 10., .01 * since, .1)
    return _spec(loss, v1.train.AdamOptimizer(rate).minimize(loss, v1.train.get_global_step()))


@PROGRAMS.good(TRAIN)
def gradient_noise_and_freezing_by_step(features, labels, mode):
    """Gradients of the first layer are zeroed until step 100."""
    step = v1.train.get_global_step()
    loss = _net(features, labels)
    optimizer = v1.train.AdamOptimizer()
    pairs = [(g * tf.cast(step > 100, tf.float32) if 'dense/' in v.name else g, v)
             for g, v in optimizer.compute_gradients(loss)]
    return _spec(loss, optimizer.apply_gradients(pairs, step))
