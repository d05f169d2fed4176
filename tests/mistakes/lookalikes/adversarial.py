"""GANs and other models whose training is not all in train_op."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, SERVE, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


class RunTrainOpsHook(tf.estimator.SessionRunHook):
    """Runs train ops before each step."""

    def __init__(self, train_ops, train_steps):
        if not isinstance(train_ops, (list, tuple)):
            train_ops = [train_ops]
        self._train_ops = train_ops
        self._train_steps = train_steps

    def before_run(self, run_context):
        for _ in range(self._train_steps):
            run_context.session.run(self._train_ops)


def _generator(noise):
    with v1.variable_scope('Generator', reuse=v1.AUTO_REUSE):
        return v1.layers.dense(v1.layers.dense(noise, 8, tf.nn.relu, name='a'), 6, name='b')


def _discriminator(rows):
    with v1.variable_scope('Discriminator', reuse=v1.AUTO_REUSE):
        return v1.layers.dense(v1.layers.dense(rows, 8, tf.nn.leaky_relu, name='a'), 1, name='b')


def _of(scope):
    return v1.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES, scope=scope)


@PROGRAMS.good(TRAIN, PREDICT, data=data.unlabelled())
def gan_trained_by_hooks(features, labels, mode):
    """train_op only advances the step; hooks train both nets."""
    noise = tf.random.normal([tf.shape(features['x'])[0], 4])
    fake = _generator(noise)
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'generated': fake})
    real_score, fake_score = _discriminator(features['x']), _discriminator(fake)
    xent = v1.losses.sigmoid_cross_entropy
    d_loss = (xent(tf.ones_like(real_score), real_score)
              + xent(tf.zeros_like(fake_score), fake_score))
    g_loss = xent(tf.ones_like(fake_score), fake_score)
    g_op = v1.train.AdamOptimizer(1e-3, .5, name='g').minimize(g_loss, var_list=_of('Generator'))
    d_op = v1.train.AdamOptimizer(1e-4, .5, name='d').minimize(d_loss,
                                                               var_list=_of('Discriminator'))
    hooks = [RunTrainOpsHook(g_op, 1), RunTrainOpsHook([d_op], 2)]
    return tf.estimator.EstimatorSpec(
        mode, loss=g_loss, train_op=v1.train.get_global_step().assign_add(1),
        training_hooks=hooks)


@PROGRAMS.good(TRAIN, data=data.unlabelled())
def gan_with_both_in_train_op(features, labels, mode):
    """Two optimizers in one train_op, one of which counts; the loss is the sum."""
    fake = _generator(tf.random.uniform([tf.shape(features['x'])[0], 4], -1., 1.))
    critic_real, critic_fake = _discriminator(features['x']), _discriminator(fake)
    d_loss = tf.reduce_mean(critic_fake) - tf.reduce_mean(critic_real)
    mixing = tf.random.uniform([tf.shape(fake)[0], 1])
    between = mixing * features['x'] + (1. - mixing) * fake
    slope = tf.gradients(_discriminator(between), between)[0]
    norm = tf.sqrt(tf.reduce_sum(tf.square(slope), axis=1) + 1e-12)
    d_loss += 10. * tf.reduce_mean(tf.square(norm - 1.))
    g_loss = -tf.reduce_mean(critic_fake)
    d_op = v1.train.AdamOptimizer(1e-4, 0., .9).minimize(d_loss, var_list=_of('Discriminator'))
    with v1.control_dependencies([d_op]):
        g_op = v1.train.AdamOptimizer(1e-4, 0., .9).minimize(
            g_loss, v1.train.get_global_step(), var_list=_of('Generator'))
    return tf.estimator.EstimatorSpec(mode, loss=g_loss + d_loss, train_op=g_op)


@PROGRAMS.good(TRAIN, data=data.unlabelled())
def gan_with_alternating_cond(features, labels, mode):
    """One optimizer or the other, by the step; weights clipped afterwards."""
    step = v1.train.get_global_step()
    fake = _generator(tf.random.normal([tf.shape(features['x'])[0], 4]))
    d_loss = tf.reduce_mean(_discriminator(fake)) - tf.reduce_mean(_discriminator(features['x']))
    g_loss = -tf.reduce_mean(_discriminator(fake))
    d_opt, g_opt = v1.train.RMSPropOptimizer(5e-5), v1.train.RMSPropOptimizer(5e-5)
    d_pairs = d_opt.compute_gradients(d_loss, _of('Discriminator'))
    g_pairs = g_opt.compute_gradients(g_loss, _of('Generator'))

    def critic():
        with v1.control_dependencies([d_opt.apply_gradients(d_pairs)]):
            clipped = [v.assign(tf.clip_by_value(v, -.01, .01)) for v in _of('Discriminator')]
        with v1.control_dependencies(clipped):
            return tf.constant(True)

    def maker():
        with v1.control_dependencies([g_opt.apply_gradients(g_pairs)]):
            return tf.constant(False)

    which = tf.cond(tf.equal(step % 5, 0), maker, critic)
    with v1.control_dependencies([which]):
        train_op = v1.assign_add(step, 1)
    return tf.estimator.EstimatorSpec(mode, loss=g_loss, train_op=train_op)


class TrainSubnetworksHook(tf.estimator.SessionRunHook):
    """Runs the ops of all candidates, the step included."""

    def __init__(self, candidates, step):
        self._candidates = candidates
        self._step_op = step.assign_add(1)

    def before_run(self, run_context):
        return tf.estimator.SessionRunArgs(
            [candidate['train_op'] for candidate in self._candidates] + [self._step_op])


@PROGRAMS.good(TRAIN, EVAL, SERVE)
def candidates_trained_by_a_hook(features, labels, mode):
    """train_op is tf.no_op(); a hook trains all candidates and advances the step."""
    step = v1.train.get_or_create_global_step()
    candidates = []
    for number in range(2):
        with v1.variable_scope(f'candidate_{number}'):
            net = v1.layers.dense(features['x'], 4 * (number + 1), tf.nn.relu)
            candidates.append({'logits': v1.layers.dense(net, 3)})
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'logits': candidates[0]['logits']})
    for candidate in candidates:
        candidate['loss'] = v1.losses.sparse_softmax_cross_entropy(labels, candidate['logits'])
        if mode == TRAIN:
            candidate['train_op'] = v1.train.AdagradOptimizer(.1).minimize(candidate['loss'])
    loss = tf.reduce_min([candidate['loss'] for candidate in candidates])
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=tf.no_op(),
        training_hooks=[TrainSubnetworksHook(candidates, step)])


@PROGRAMS.good(TRAIN)
def domain_adversarial(features, labels, mode):
    """A gradient reversal layer."""
    @tf.custom_gradient
    def reverse(x):
        return tf.identity(x), lambda upstream: -.3 * upstream

    code = v1.layers.dense(features['x'], 5, tf.nn.relu)
    logits = v1.layers.dense(code, 3)
    domain = v1.layers.dense(reverse(code), 1)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    side = tf.cast(tf.equal(labels % 2, 0), tf.float32)[:, None]
    loss += v1.losses.sigmoid_cross_entropy(side, domain)
    op = v1.train.MomentumOptimizer(.01, .9).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op)
