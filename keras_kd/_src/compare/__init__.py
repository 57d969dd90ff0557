"""Comparisons of training methods: was distillation worth it?"""
